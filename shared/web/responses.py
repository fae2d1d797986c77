"""JSON answers whose amounts keep their exact digits."""

from typing import Any

from starlette.responses import Response

from shared.contracts import exact_json


class ExactJSONResponse(Response):
    """Decimals become JSON numbers with their own digits, never through a binary float."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return exact_json.dumps(content)

"""The error tree: a class is a code, its docstring the default message. `shared.web.errors` gives HTTP statuses."""

import re
from collections.abc import Mapping, Sequence
from typing import Any


class UsageError(Exception):
    """Something went wrong."""

    def __init__(self, detail: str | None = None, *, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.errors = list(errors)
        super().__init__(self.detail)

    @property
    def code(self) -> str:
        """`InvalidApiKey` -> `invalid_api_key`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


class Unauthenticated(UsageError):
    """Send a valid API key in `X-API-Key` or `Authorization: Bearer`."""


class InvalidApiKey(Unauthenticated):
    """The API key is unknown, disabled or expired."""


class Forbidden(UsageError):
    """This key may not do that."""


class MissingScope(Forbidden):
    """This key lacks the scope the endpoint needs."""


class TenantMismatch(Forbidden):
    """The tenant named in the request is not the tenant of this key."""


class NotFound(UsageError):
    """There is no such thing."""


class Conflict(UsageError):
    """This contradicts something that exists."""


class PayloadTooLarge(UsageError):
    """The body is too large."""


class UnsupportedMediaType(UsageError):
    """This media type or encoding is not supported."""


class InvalidRequest(UsageError):
    """The request is malformed."""


class InvalidEvents(InvalidRequest):
    """None of the events could be accepted."""


class InvalidWindow(InvalidRequest):
    """The time window makes no sense."""


class Unavailable(UsageError):
    """A dependency is down; retry after a moment."""


class QueueUnavailable(Unavailable):
    """The event could not be made durable; nothing was kept: send it again with the same event_id."""


class QueueFull(Unavailable):
    """The backlog has reached its bound; nothing was kept: send it again later with the same event_id."""

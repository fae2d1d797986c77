"""Reads are forwarded to the query service, so that one base URL and one key are enough."""

import httpx2
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api_gateway.dependencies import resources_of
from shared.domain.errors import InvalidRequest, NotFound, Unavailable

router = APIRouter(tags=["reads"])

_FORWARDED_HEADERS = (b"x-api-key", b"authorization", b"x-tenant-id", b"x-customer-id", b"accept")
_RETURNED_HEADERS = ("content-type", "retry-after", "www-authenticate")


class QueryServiceUnavailable(Unavailable):
    """The query service does not answer; events are still accepted. Try again in a moment."""


@router.get("/api/v1/usage", summary="Usage events (query service)")
@router.get("/api/v1/usage/{path:path}", summary="Usage reports (query service)")
@router.get("/api/v1/analytics/{path:path}", summary="Analytics (query service)")
async def forward(request: Request) -> Response:
    """Answered by the query service; see its /docs for parameters and shapes."""
    resources = resources_of(request)
    if ".." in request.url.path.split("/"):
        raise NotFound
    headers = [(name, value) for name, value in request.headers.raw if name in _FORWARDED_HEADERS]
    headers.append((b"x-request-id", request.state.request_id.encode()))
    target = b"?".join(part for part in (request.scope["raw_path"], request.scope["query_string"]) if part)
    try:
        answer = await resources.query_service.get(target.decode("latin-1"), headers=headers)
    except httpx2.InvalidURL as error:
        raise InvalidRequest("The address is too long or holds characters that it may not.") from error
    except httpx2.HTTPError as error:
        raise QueryServiceUnavailable from error
    returned = {name: value for name in _RETURNED_HEADERS if (value := answer.headers.get(name)) is not None}
    return Response(answer.content, answer.status_code, returned)

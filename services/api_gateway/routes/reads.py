"""Reads are forwarded to the query service, so that one base URL and one key are enough."""

import httpx2
from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api_gateway.dependencies import resources_of
from shared.domain.errors import Unavailable

router = APIRouter(tags=["reads"])

_FORWARDED_HEADERS = ("x-api-key", "authorization", "x-tenant-id", "x-customer-id", "accept")
_RETURNED_HEADERS = ("content-type", "retry-after", "www-authenticate")


class QueryServiceUnavailable(Unavailable):
    """The query service does not answer; events are still accepted. Try again in a moment."""


@router.get("/api/v1/usage", summary="Usage events (query service)")
@router.get("/api/v1/usage/{path:path}", summary="Usage reports (query service)")
@router.get("/api/v1/analytics/{path:path}", summary="Analytics (query service)")
async def forward(request: Request) -> Response:
    """Answered by the query service; see its /docs for parameters and shapes."""
    resources = resources_of(request)
    headers = {name: value for name in _FORWARDED_HEADERS if (value := request.headers.get(name)) is not None}
    headers["x-request-id"] = request.state.request_id
    try:
        answer = await resources.query_service.get(
            request.url.path, params=request.query_params.multi_items(), headers=headers
        )
    except httpx2.HTTPError as error:
        raise QueryServiceUnavailable from error
    returned = {name: value for name in _RETURNED_HEADERS if (value := answer.headers.get(name)) is not None}
    return Response(answer.content, answer.status_code, returned)

"""`POST /api/v1/events` and `/api/v1/events/batch`."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.api_gateway.body import decode_body, read_body
from services.api_gateway.dependencies import resources_of
from services.api_gateway.schemas import Accepted, BatchAccepted, BatchBody, EventBody, request_body
from shared.domain.errors import InvalidRequest, TenantMismatch
from shared.web.responses import ExactJSONResponse

router = APIRouter(prefix="/api/v1", tags=["events"])


@router.post(
    "/events", status_code=202, response_model=Accepted, openapi_extra=request_body({"application/json": EventBody})
)
async def accept_event(request: Request) -> Response:
    """Take one event. 202 means: held durably, and counted once however often it is sent with the same `event_id`."""
    resources = resources_of(request)
    scope = await resources.authenticator.tenant(request, scope="ingest")
    body = await read_body(request, max_bytes=resources.settings.max_body_bytes)
    item = decode_body(body, content_type=request.headers.get("content-type", ""))
    if isinstance(item, list):
        raise InvalidRequest("This endpoint takes one event; send several to /api/v1/events/batch.")
    ingested = await resources.ingestor.ingest([item], scope, **_context(request))
    return ExactJSONResponse(
        {"success": True, "event_id": ingested.event_ids[0], "message": "Event accepted"}, status_code=202
    )


@router.post(
    "/events/batch",
    status_code=202,
    response_model=BatchAccepted,
    openapi_extra=request_body({"application/json": BatchBody | list[EventBody], "application/x-ndjson": EventBody}),
)
async def accept_batch(request: Request) -> Response:
    """Take many events: `{"events": […]}`, an array, or NDJSON; gzip or zstd. Good events of a mixed batch are kept."""
    resources = resources_of(request)
    scope = await resources.authenticator.tenant(request, scope="ingest")
    body = await read_body(request, max_bytes=resources.settings.max_body_bytes)
    items = decode_body(
        body,
        content_type=request.headers.get("content-type", ""),
        max_lines=resources.settings.max_batch_size,
    )
    if isinstance(items, dict):
        if items.get("tenant_id", scope.tenant_id) not in (None, scope.tenant_id):
            raise TenantMismatch
        items = items.get("events")
    if not isinstance(items, list):
        raise InvalidRequest(
            'Send {"events": [...]}, a JSON array of events, or an event a line (application/x-ndjson).'
        )
    ingested = await resources.ingestor.ingest(items, scope, **_context(request))
    processed, failed = len(ingested.event_ids), len(ingested.failures)
    return ExactJSONResponse(
        {
            "success": not failed,
            "processed_count": processed,
            "failed_count": failed,
            "failed_events": [failure.as_failed_event() for failure in ingested.failures],
            "event_ids": ingested.event_ids,
            "message": f"{processed} events accepted" + (f", {failed} refused" if failed else ""),
        },
        status_code=202,
    )


def _context(request: Request) -> dict[str, Any]:
    headers = request.headers
    return {
        "request_id": request.state.request_id,
        "customer_id": _short(headers.get("x-customer-id", ""), "X-Customer-ID"),
        "idempotency_key": _short(headers.get("idempotency-key", ""), "Idempotency-Key") or None,
    }


def _short(value: str, name: str) -> str:
    if len(value) > 128 or not value.isprintable():
        raise InvalidRequest(f"The header {name} must be at most 128 printable characters.")
    return value

"""`GET /api/v1/usage` and what is summed up from it."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.query_service.dependencies import Asking, Parts
from services.query_service.schemas.answers import Aggregate, ByService, Costs, EventList
from services.query_service.schemas.parameters import (
    AggregateParameters,
    CostParameters,
    EventParameters,
    FilterParameters,
)
from shared.web.responses import ExactJSONResponse

router = APIRouter(prefix="/api/v1/usage", tags=["usage"])


@router.get("", response_model=EventList)
async def list_events(caller: Asking, parts: Parts, parameters: Annotated[EventParameters, Query()]) -> Response:
    """Events, newest first. Default: the last 30 days. The next page by `cursor`, or by `offset`."""
    return ExactJSONResponse(await parts.reports.events(parameters, caller))


@router.get("/aggregate", response_model=Aggregate)
async def aggregate(caller: Asking, parts: Parts, parameters: Annotated[AggregateParameters, Query()]) -> Response:
    """Exact sums for each period of the window, empty ones too, and for all of it. The first and the last period only
    as far as they lie in the window. Default: the last 48 hours, 30 days, 12 weeks or 12 months."""
    return ExactJSONResponse(await parts.reports.aggregate(parameters, caller))


@router.get("/by-service", response_model=ByService)
async def by_service(caller: Asking, parts: Parts, parameters: Annotated[FilterParameters, Query()]) -> Response:
    """Exact sums for each service type and provider, the busiest first. Default: the last 30 days."""
    return ExactJSONResponse(await parts.reports.by_service(parameters, caller))


@router.get("/costs", response_model=Costs)
async def costs(caller: Asking, parts: Parts, parameters: Annotated[CostParameters, Query()]) -> Response:
    """Costs by group, the most expensive first, or by day. Needs `costs:read`. Default: the last 30 days."""
    return ExactJSONResponse(await parts.reports.costs(parameters, caller))

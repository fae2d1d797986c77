"""`GET /api/v1/analytics/...`."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.query_service.dependencies import Asking, Parts
from services.query_service.schemas.answers import TopUsers, Trend
from services.query_service.schemas.parameters import TopUserParameters, TrendParameters
from shared.web.responses import ExactJSONResponse

router = APIRouter(prefix="/api/v1/analytics", tags=["analytics"])


@router.get("/trends", response_model=Trend)
async def trends(caller: Asking, parts: Parts, parameters: Annotated[TrendParameters, Query()]) -> Response:
    """One metric over time, with a point for every period, and where it is going. `cost` needs `costs:read`."""
    return ExactJSONResponse(await parts.analytics.trends(parameters, caller))


@router.get("/top-users", response_model=TopUsers)
async def top_users(caller: Asking, parts: Parts, parameters: Annotated[TopUserParameters, Query()]) -> Response:
    """The users with most of `metric`, exact however many there are; those with none are left out. `cost` needs
    `costs:read`. Default: the last 30 days."""
    return ExactJSONResponse(await parts.analytics.top_users(parameters, caller))

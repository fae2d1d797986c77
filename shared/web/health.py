"""`/health`, `/livez`, `/readyz`, `/metrics`: the same on every process."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import prometheus_client
from fastapi import APIRouter, Response
from starlette.responses import JSONResponse

Check = Callable[[], Awaitable[bool]]

_OPEN: dict[str, Any] = {"security": []}  # for probes and scrapers: no key


class Health:
    """Named checks of what this process cannot work without, and whether it is being stopped.

    `informative` checks show on /health only: the process can do its main work without them.
    """

    def __init__(
        self, service: str, checks: Mapping[str, Check], *, informative: Mapping[str, Check] | None = None
    ) -> None:
        self.service = service
        self.is_draining = False
        self._needed = dict(checks)
        self._informative = dict(informative or {})

    async def needed(self) -> dict[str, str]:
        return {name: "up" if await check() else "down" for name, check in self._needed.items()}

    async def all(self) -> dict[str, str]:
        more = {name: "up" if await check() else "down" for name, check in self._informative.items()}
        return {**await self.needed(), **more}


def health_router(health: Health) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health", summary="What is up and what is down; always 200", openapi_extra=_OPEN)
    async def report() -> JSONResponse:
        parts = await health.all()
        is_healthy = all(state == "up" for state in parts.values())
        return JSONResponse(
            {"status": "healthy" if is_healthy else "degraded", "service": health.service, "checks": parts}
        )

    @router.get("/livez", summary="The process answers", openapi_extra=_OPEN)
    async def live() -> JSONResponse:
        return JSONResponse({"status": "alive"})

    @router.get("/readyz", summary="200 when this process may get traffic, else 503", openapi_extra=_OPEN)
    async def ready() -> JSONResponse:
        parts = await health.needed()
        is_ready = not health.is_draining and all(state == "up" for state in parts.values())
        status = "ready" if is_ready else "draining" if health.is_draining else "not ready"
        return JSONResponse({"status": status, "checks": parts}, status_code=200 if is_ready else 503)

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response, openapi_extra=_OPEN)
    async def metrics() -> Response:
        return Response(prometheus_client.generate_latest(), media_type=prometheus_client.CONTENT_TYPE_LATEST)

    return router

"""The query service as an application: built by hand in one function."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.query_service.dependencies import Resources
from services.query_service.routes import analytics, usage
from services.query_service.settings import QueryServiceSettings
from shared.web.application import create_application
from shared.web.health import Health


def create_app(settings: QueryServiceSettings, resources: Resources | None = None) -> FastAPI:
    """`resources` given are the caller's to close."""
    held = resources or Resources.open(settings)
    health = Health("query_service", held.checks)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        health.is_draining = True
        if resources is None:
            await held.close()

    app = create_application(title="Usage queries", health=health, lifespan=lifespan)
    app.state.resources = held
    app.include_router(usage.router)
    app.include_router(analytics.router)
    return app

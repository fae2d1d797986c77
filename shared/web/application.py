"""A FastAPI application with this platform's errors, request context and health endpoints."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from fastapi import FastAPI

from shared.web.errors import Problem, install_error_handlers
from shared.web.health import Health, health_router
from shared.web.middleware import RequestContext


def create_application(
    *,
    title: str,
    health: Health,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
    has_docs: bool = True,
) -> FastAPI:
    app = FastAPI(
        title=title,
        version="1",
        lifespan=lifespan,
        docs_url="/docs" if has_docs else None,
        redoc_url=None,
        openapi_url="/openapi.json" if has_docs else None,
        responses={"default": {"model": Problem, "description": "Error, as application/problem+json"}},
    )
    app.openapi = partial(_with_keys, app.openapi)  # type: ignore[method-assign]
    app.add_middleware(RequestContext)
    install_error_handlers(app)
    app.include_router(health_router(health))
    return app


def _with_keys(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The OpenAPI document, saying where the API key goes."""
    document = describe()
    document["components"]["securitySchemes"] = {
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    document["security"] = [{"api_key": []}, {"bearer": []}]
    return document

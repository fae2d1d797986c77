"""Request context: an id on every request and answer, and its time and status counted by route."""

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.observability.metrics import HTTP_REQUESTS, HTTP_SECONDS

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}\Z")


class RequestContext:
    """Takes the caller's `X-Request-ID` if it is a short plain word, else makes one; returns it on the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        stated = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = stated.decode() if _REQUEST_ID.match(stated) else secrets.token_hex(12)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = "500"
        started = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = f"{message['status'] // 100}xx"
                message.setdefault("headers", []).append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            route = _route_template(scope)
            HTTP_SECONDS.labels(route).observe(time.perf_counter() - started)
            HTTP_REQUESTS.labels(scope["method"] if scope["method"] in _METHODS else "other", route, status).inc()
            structlog.contextvars.unbind_contextvars("request_id")


_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


def _route_template(scope: Scope) -> str:
    """The route's template, a closed list; never the path itself, which callers choose."""
    route = scope.get("route")
    return getattr(route, "path", None) or "unmatched"

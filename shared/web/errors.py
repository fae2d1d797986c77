"""Every error leaves as `application/problem+json` (RFC 9457). The one table of HTTP statuses is here."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response

from shared.contracts import exact_json
from shared.domain import errors

log = structlog.get_logger()

_STATUS: Mapping[type[errors.UsageError], int] = {
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.PayloadTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.InvalidRequest: 422,
    errors.Unavailable: 503,
}
RETRY_AFTER_SECONDS = 1


class ErrorItem(BaseModel):
    """One thing that is wrong, where, and what to do."""

    index: int | None = None
    field: str | None = None
    code: str
    message: str


class Problem(BaseModel):
    """The body of every error. `error` and `message` repeat `code` and `detail` for older clients."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[ErrorItem] = []
    request_id: str
    error: str
    message: str


def status_of(error: errors.UsageError) -> int:
    return next((_STATUS[cls] for cls in type(error).__mro__ if cls in _STATUS), 500)


def problem_response(
    request: Request,
    *,
    status: int,
    code: str,
    detail: str,
    items: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
) -> Response:
    body: dict[str, Any] = {
        "type": f"urn:usage:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        "code": code,
        "errors": list(items),
        "request_id": request.scope.get("state", {}).get("request_id", ""),
        "error": code,
        "message": detail,
    }
    if extra:
        body.update(extra)
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="usage"'
    if status == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return Response(exact_json.dumps(body), status, headers, media_type="application/problem+json")


def install_error_handlers(app: FastAPI) -> None:
    """Known errors keep their code; anything unforeseen is logged here and answered without its details."""

    @app.exception_handler(errors.UsageError)
    async def _known(request: Request, error: errors.UsageError) -> Response:
        status = status_of(error)
        if status >= 500:
            log.warning("request_refused", code=error.code, route=request.url.path)
        return problem_response(request, status=status, code=error.code, detail=error.detail, items=error.errors)

    @app.exception_handler(RequestValidationError)
    async def _malformed(request: Request, error: RequestValidationError) -> Response:
        items = [
            {"field": ".".join(str(part) for part in item["loc"][1:]), "code": item["type"], "message": item["msg"]}
            for item in error.errors()
        ]
        detail = "; ".join(f"{item['field']}: {item['message']}" for item in items[:3])
        return problem_response(request, status=422, code="invalid_request", detail=detail, items=items)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        response = problem_response(request, status=error.status_code, code=code, detail=str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> Response:
        request_id = request.scope.get("state", {}).get("request_id", "")
        log.error("request_failed", route=request.url.path, request_id=request_id, exc_info=error)
        response = problem_response(
            request, status=500, code="internal_error", detail="Something failed on our side; quote the request_id."
        )
        response.headers["X-Request-ID"] = request_id  # this answer is made outside of the request's context
        return response

"""The connection to the server: opening it, asking, and turning a bad answer into an exception."""

import functools
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from client_sdk import exceptions
from client_sdk._json import read_json
from client_sdk._version import __version__

# A proxy that answers with an absurd Retry-After must not silence a tracker for good.
_LONGEST_WAIT_SECONDS = 3600.0


def open_client(
    *,
    api_key: str,
    base_url: str,
    tenant_id: str | None,
    timeout_seconds: float,
    transport: httpx2.AsyncBaseTransport | None,
) -> httpx2.AsyncClient:
    headers = {"X-API-Key": api_key, "User-Agent": f"usage-tracker-sdk/{__version__}"}
    if tenant_id is not None:
        headers["X-Tenant-ID"] = tenant_id
    return httpx2.AsyncClient(
        base_url=base_url,
        headers=headers,
        timeout=timeout_seconds,
        transport=transport,
        verify=trusted_certificates() if transport is None else True,
    )


@functools.cache
def trusted_certificates() -> ssl.SSLContext:
    """Reading them takes a tenth of a second: once in a process, and in the tracker's constructor, not in an event loop
    that is serving someone."""
    return httpx2.create_ssl_context()


async def ask(client: httpx2.AsyncClient, method: str, path: str, **request: Any) -> httpx2.Response:
    """The server's answer, whatever it says, or a TransportError."""
    try:
        return await client.request(method, path, **request)
    except httpx2.TimeoutException as error:
        raise exceptions.TimeoutError(f"no answer in time ({type(error).__name__})") from error
    except httpx2.HTTPError as error:
        raise exceptions.TransportError(f"{type(error).__name__}: {error}") from error


def error_from(response: httpx2.Response) -> exceptions.APIError:
    problem = read_object(response)
    detail = next((problem[key] for key in ("detail", "message", "title", "error") if _is_text(problem.get(key))), None)
    code, request_id = problem.get("code"), problem.get("request_id")
    return _error_class(response.status_code)(
        f"HTTP {response.status_code}: {detail or response.reason_phrase or 'no reason given'}",
        status_code=response.status_code,
        code=code if _is_text(code) else None,
        request_id=request_id if _is_text(request_id) else response.headers.get("X-Request-ID"),
        retry_after_seconds=retry_after_seconds(response.headers, datetime.now(UTC)),
    )


def read_object(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object in the body, or an empty one: a proxy's HTML page is an answer too."""
    try:
        body = read_json(response.content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """Both forms of the header: a number of seconds, and a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value), _LONGEST_WAIT_SECONDS)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    seconds = (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)


def _error_class(status: int) -> type[exceptions.APIError]:
    if status in (401, 403):
        return exceptions.AuthenticationError
    if status in (400, 422):
        return exceptions.InvalidRequestError
    if status == 429:
        return exceptions.RateLimitError
    return exceptions.ServiceUnavailableError if status >= 500 else exceptions.APIError


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""

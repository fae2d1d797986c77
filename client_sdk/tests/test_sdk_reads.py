"""Reads: the query sent, exact amounts in the answer, and an exception for each kind of refusal."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import client_sdk
from client_sdk import (
    APIError,
    AuthenticationError,
    InvalidRequestError,
    RateLimitError,
    ServiceUnavailableError,
    TransportError,
    UsageTrackerError,
    ValidationError,
)
from client_sdk._http import retry_after_seconds


def asked(server: Any) -> tuple[str, dict[str, list[str]]]:
    url = urlsplit(server.requests[-1].target)
    return url.path, parse_qs(url.query)


async def test_get_usage_as_in_the_readme(server: Any, make_tracker: Any, kit: Any) -> None:
    server.default = kit.Reply(200, b'{"total_count": 1, "events": [{"total_cost": 0.0000234}]}')
    async with make_tracker() as tracker:
        usage = await tracker.get_usage(
            start_date=datetime(2024, 1, 1),  # noqa: DTZ001
            end_date=datetime(2024, 1, 31, 12, tzinfo=UTC),
            service_type="llm_service",
            tags=["a", "b"],
        )
    assert usage["total_count"] == 1
    assert str(usage["events"][0]["total_cost"]) == "0.0000234"
    assert isinstance(usage["events"][0]["total_cost"], Decimal)
    assert server.requests[-1].headers["x-api-key"] == "key-1"
    assert asked(server) == (
        "/api/v1/usage",
        {
            "start_date": ["2024-01-01T00:00:00+00:00"],
            "end_date": ["2024-01-31T12:00:00+00:00"],
            "service_type": ["llm_service"],
            "limit": ["100"],
            "include_billing": ["true"],
            "tags": ["a", "b"],
        },
    )


@pytest.mark.parametrize(
    ("method", "arguments", "path", "query"),
    [
        ("get_aggregate", {"period": "hour"}, "/usage/aggregate", {"period": ["hour"]}),
        ("get_by_service", {"customer_id": "c"}, "/usage/by-service", {"customer_id": ["c"]}),
        ("get_costs", {"group_by": "model"}, "/usage/costs", {"group_by": ["model"]}),
        ("get_trends", {}, "/analytics/trends", {"metric": ["event_count"], "period": ["day"]}),
        ("get_top_users", {"limit": 3, "timezone": "Europe/Paris"}, "/analytics/top-users", None),
    ],
)
async def test_analytics(
    server: Any, make_tracker: Any, kit: Any, method: str, arguments: dict[str, Any], path: str, query: Any
) -> None:
    server.default = kit.Reply(200, {"items": []})
    async with make_tracker() as tracker:
        assert await getattr(tracker, method)(**arguments) == {"items": []}
    assert asked(server) == (f"/api/v1{path}", query or {"limit": ["3"], "timezone": ["Europe/Paris"]})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, APIError),
        (422, InvalidRequestError),
        (422, ValidationError),
        (429, RateLimitError),
        (503, ServiceUnavailableError),
        (302, APIError),
    ],
)
async def test_refusals_are_exceptions(server: Any, make_tracker: Any, kit: Any, status: int, kind: Any) -> None:
    reply = kit.problem(status, "why", code="some_code", request_id="req-1")
    reply.headers["Retry-After"] = "7"
    server.default = reply
    async with make_tracker() as tracker:
        with pytest.raises(kind) as caught:
            await tracker.get_usage()
    error = caught.value
    assert (error.status_code, error.code, error.request_id) == (status, "some_code", "req-1")
    assert error.retry_after_seconds == 7
    assert str(error) == error.detail == f"HTTP {status}: why"
    assert len(server.requests) == 1


async def test_no_answer_and_no_json(server: Any, make_tracker: Any, kit: Any) -> None:
    server.script = [kit.Reset(), kit.Reply(200, b"<html>"), kit.Reply(502, b"<html>")]
    async with make_tracker() as tracker:
        with pytest.raises(TransportError):
            await tracker.get_usage()
        with pytest.raises(TransportError, match="not JSON"):
            await tracker.get_usage()
        with pytest.raises(ServiceUnavailableError, match="HTTP 502"):
            await tracker.get_usage()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999999", 3600.0),
        ("Tue, 08 Oct 2024 12:00:30 GMT", 30.0),
        ("Tue, 08 Oct 2024 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_in_both_forms(header: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": header}, datetime(2024, 10, 8, 12, tzinfo=UTC)) == seconds


def test_everything_public_is_exported_and_every_error_has_one_root() -> None:
    assert all(hasattr(client_sdk, name) for name in client_sdk.__all__)
    public = {name for name in vars(client_sdk) if not name.startswith("_")} - {"exceptions"}
    assert public == set(client_sdk.__all__) - {"__version__"}
    errors = [vars(client_sdk)[name] for name in client_sdk.__all__ if name.endswith("Error")]
    assert all(issubclass(error, UsageTrackerError) for error in errors)
    assert str(client_sdk.BufferFullError()) == "The buffer is full; the event was not queued."

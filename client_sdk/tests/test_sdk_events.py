"""What an event looks like on the wire, and what is refused where it is tracked."""

import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

import httpx2
import pytest

from client_sdk import UsageTracker, ValidationError


@pytest.fixture
def sent() -> list[str]:
    return []


@pytest.fixture
def tracker(sent: list[str]) -> Iterator[UsageTracker]:
    """The events themselves are looked at in the buffer: nothing needs a server here."""
    tracker = UsageTracker("k", flush_interval_seconds=600)
    yield tracker
    tracker._farewell.detach()


def only(tracker: UsageTracker) -> dict[str, Any]:
    [event] = tracker.unsent_events()
    return event


def raw(tracker: UsageTracker) -> str:
    return tracker._buffer.unanswered()[-1].body.decode()


async def test_llm_event_in_full(tracker: UsageTracker) -> None:
    event_id = await tracker.track_llm(
        user_id="user-1",
        model="gpt-4",
        input_tokens=100,
        output_tokens=50,
        service_provider="openai",
        cached_input_tokens=20,
        cache_write_tokens=3,
        reasoning_tokens=4,
        latency_ms=12.5,
        temperature=0.7,
        customer_id="c",
        session_id="s",
        request_id="r",
        job_id="j",
        run_id="run",
        span_id="span",
        parent_span_id="parent",
        section="retrieval",
        timestamp=datetime(2024, 10, 8, 12, tzinfo=timezone(timedelta(hours=2))),
        metadata={"session_id": "chat", "nested": {"list": [1, None, True]}},
        metrics={"credits": Decimal("0.10")},
        tags=["a", "b"],
        status="failed",
        error_message="boom",
    )
    assert only(tracker) == {
        "event_id": event_id,
        "timestamp": "2024-10-08T10:00:00.000000Z",
        "user_id": "user-1",
        "service_type": "llm_service",
        "event_type": "completion",
        "service_provider": "openai",
        "customer_id": "c",
        "session_id": "s",
        "request_id": "r",
        "job_id": "j",
        "run_id": "run",
        "span_id": "span",
        "parent_span_id": "parent",
        "section": "retrieval",
        "error_message": "boom",
        "status": "failed",
        "tags": ["a", "b"],
        "metadata": {
            "model": "gpt-4",
            "temperature": Decimal("0.7"),
            "session_id": "chat",
            "nested": {"list": [1, None, True]},
        },
        "metrics": {
            "input_tokens": 100,
            "output_tokens": 50,
            "cached_input_tokens": 20,
            "cache_write_tokens": 3,
            "reasoning_tokens": 4,
            "latency_ms": Decimal("12.5"),
            "credits": Decimal("0.10"),
        },
    }


async def test_absent_fields_are_not_sent(tracker: UsageTracker) -> None:
    await tracker.track_document(
        user_id="u", document_type="invoice", processing_type="ocr", pages_processed=5, service_provider="document_ai"
    )
    event = only(tracker)
    assert set(event) == {
        "event_id",
        "timestamp",
        "user_id",
        "service_type",
        "event_type",
        "service_provider",
        "metadata",
        "metrics",
    }
    assert event["service_type"] == "document_processor"
    assert event["metadata"] == {"document_type": "invoice", "processing_type": "ocr"}
    assert event["metrics"] == {"pages_processed": 5}


async def test_api_event(tracker: UsageTracker) -> None:
    await tracker.track_api(user_id="u", endpoint="/v1/x", method="GET", response_time_ms=3, status_code=200)
    event = only(tracker)
    assert event["service_type"] == "api_service"
    assert event["metadata"] == {"endpoint": "/v1/x", "method": "GET", "status_code": 200}
    assert event["metrics"] == {"request_count": 1, "response_time_ms": 3}


async def test_custom_event(tracker: UsageTracker) -> None:
    await tracker.track_custom(
        user_id="u",
        service_type="custom_ml_service",
        event_type="predict",
        service_provider="provider_a",
        metrics={"predictions": 7, "correction": -1},
        metadata={"model_version": "3"},
    )
    event = only(tracker)
    assert (event["service_type"], event["event_type"]) == ("custom_ml_service", "predict")
    assert event["metrics"] == {"predictions": 7, "correction": -1}


async def test_ids_are_uuid7_and_timestamps_are_the_moment_of_the_call(tracker: UsageTracker) -> None:
    before = datetime.now(UTC)
    ids = [await tracker.track_api(user_id="u", endpoint="/", method="GET") for _ in range(200)]
    after = datetime.now(UTC)
    assert len(set(ids)) == 200
    for event_id, event in zip(ids, tracker.unsent_events(), strict=True):
        parsed = uuid.UUID(event_id)
        assert str(parsed) == event_id == event["event_id"]
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert abs((parsed.int >> 80) / 1000 - before.timestamp()) < 5
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event["timestamp"])
        assert before <= datetime.fromisoformat(event["timestamp"]) <= after


async def test_an_id_of_the_callers_own_is_kept(tracker: UsageTracker) -> None:
    assert await tracker.track_api(user_id="u", endpoint="/", method="GET", event_id="order-7") == "order-7"
    assert only(tracker)["event_id"] == "order-7"
    own = uuid.uuid4()
    assert await tracker.track_api(user_id="u", endpoint="/", method="GET", event_id=own) == str(own)


@pytest.mark.parametrize(
    ("amount", "digits"),
    [
        (Decimal("0.1"), "0.1"),
        (Decimal("0.0000234"), "0.0000234"),
        (Decimal("1E-10"), "0.0000000001"),
        (Decimal("1.50"), "1.50"),
        (Decimal("1E+3"), "1000"),
        (Decimal("12345678901234567890.123456789012345678"), "12345678901234567890.123456789012345678"),
        (12345678901234567890123, "12345678901234567890123"),
        (0.1, "0.1"),
    ],
)
async def test_quantities_are_written_digit_for_digit(tracker: UsageTracker, amount: Any, digits: str) -> None:
    await tracker.track_custom(user_id="u", service_type="s", event_type="e", metrics={"n": amount})
    assert f'"metrics":{{"n":{digits}}}' in raw(tracker)


async def test_what_is_changed_after_the_call_is_not_sent(tracker: UsageTracker) -> None:
    metadata = {"step": 1}
    await tracker.track_custom(user_id="u", service_type="s", event_type="e", metadata=metadata)
    metadata["step"] = 2
    assert only(tracker)["metadata"] == {"step": 1}


async def test_metadata_takes_the_usual_types(tracker: UsageTracker) -> None:
    class Colour(StrEnum):
        RED = "red"

    own = uuid.uuid4()
    metadata = {
        "text": 'qu"ote \n é 😀 \x00',
        "tuple": (1, 2),
        "at": datetime(2024, 1, 1, tzinfo=UTC),
        "day": datetime(2024, 1, 2, tzinfo=UTC).date(),
        "id": own,
        "colour": Colour.RED,
        "float": 1e-7,
    }
    await tracker.track_custom(user_id="u", service_type="s", event_type="e", metadata=metadata)
    assert only(tracker)["metadata"] == {
        "text": 'qu"ote \n é 😀 \x00',
        "tuple": [1, 2],
        "at": "2024-01-01T00:00:00.000000Z",
        "day": "2024-01-02",
        "id": str(own),
        "colour": "red",
        "float": Decimal("1E-7"),
    }


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE
GOOD: dict[str, Any] = {"user_id": "u", "model": "m", "input_tokens": 1, "output_tokens": 1}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"user_id": None}, "user_id"),
        ({"user_id": " "}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"model": ""}, "model"),
        ({"input_tokens": -1}, "input_tokens"),
        ({"input_tokens": None}, "input_tokens"),
        ({"input_tokens": "5"}, "input_tokens"),
        ({"input_tokens": True}, "input_tokens"),
        ({"output_tokens": Decimal("-0.5")}, "output_tokens"),
        ({"output_tokens": Decimal("NaN")}, "output_tokens"),
        ({"output_tokens": Decimal("sNaN")}, "output_tokens"),
        ({"output_tokens": Decimal("1E+999999")}, "output_tokens"),
        ({"latency_ms": float("nan")}, "latency_ms"),
        ({"latency_ms": float("inf")}, "latency_ms"),
        ({"latency_ms": -1.5}, "latency_ms"),
        ({"timestamp": datetime(2024, 1, 1)}, "timestamp"),  # noqa: DTZ001
        ({"metadata": {"at": datetime(2024, 1, 1)}}, "metadata.at"),  # noqa: DTZ001
        ({"metadata": {"deep": [1, {"x": float("nan")}]}}, "metadata.deep[1].x"),
        ({"metadata": {"x": object()}}, "metadata.x"),
        ({"metadata": {1: "x"}}, "metadata"),
        ({"metadata": "text"}, "metadata"),
        ({"metadata": CYCLE}, "nested"),
        ({"metadata": {"x": "\ud800"}}, "surrogate"),
        ({"metadata": {"model": "another"}}, "model"),
        ({"metrics": {"x": "1"}}, "metrics.x"),
        ({"metrics": {"input_tokens": 2}}, "input_tokens"),
        ({"tags": "tag"}, "tags"),
        ({"tags": [1]}, "tags"),
        ({"status": "ok"}, "status"),
        ({"customer_id": ""}, "customer_id"),
        ({"event_id": ""}, "event_id"),
    ],
)
async def test_mistakes_are_named_at_once_and_queue_nothing(
    tracker: UsageTracker, wrong: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(named)):
        await tracker.track_llm(**{**GOOD, **wrong})
    assert tracker.stats.queued == 0


async def test_zero_pages_and_unknown_arguments_are_mistakes(tracker: UsageTracker) -> None:
    with pytest.raises(ValidationError, match="pages_processed"):
        await tracker.track_document(user_id="u", document_type="d", processing_type="p", pages_processed=0)
    with pytest.raises(TypeError, match="colour"):
        await tracker.track_llm(**GOOD, colour="red")  # type: ignore[call-arg]


async def test_mock_transport_is_enough_for_a_callers_tests() -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(202, json={"processed_count": 1, "failed_count": 0, "failed_events": []})

    async with UsageTracker("k", transport=httpx2.MockTransport(answer)) as tracker:
        await tracker.track_llm(**GOOD)
    assert tracker.stats.sent == 1

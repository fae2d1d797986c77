"""Taking events in: every form a request may have, and what of it is on the queue afterwards."""

import asyncio
import gzip
import json
import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from backports import zstd

from shared.contracts.envelope import VERSION
from tests.support.gateway import Front
from tests.support.pipeline import llm_event

DOCUMENT = {
    "event_id": "doc-1",
    "user_id": "user-1",
    "service_type": "document_processor",
    "service_provider": "document_ai",
    "event_type": "parse",
    "metadata": {"document_type": "invoice", "processing_type": "extraction", "accuracy": 0.98},
    "metrics": {"pages_processed": 5},
}
API_CALL = {
    "event_id": "api-1",
    "user_id": "user-1",
    "service_type": "api_service",
    "endpoint": "/v1/things",
    "method": "GET",
    "status_code": 200,
}


async def test_an_accepted_event_is_on_the_queue_exactly_as_it_was_sent(front: Front) -> None:
    before = time.time_ns() // 1000
    sent = llm_event("e-1", session_id="s-1", tags=["prod"], metadata={"model": "gpt-4", "temperature": 0.7})
    answer = await front.send("/events", sent, headers={"X-Request-ID": "req-1"})
    assert answer.status_code == 202
    assert answer.json() == {"success": True, "event_id": "e-1", "message": "Event accepted"}
    (envelope,) = await front.envelopes()
    assert (envelope.version, envelope.tenant, envelope.tenant_id) == (
        VERSION,
        front.tenant.scope.number,
        front.tenant.tenant_id,
    )
    assert before <= envelope.received_at <= time.time_ns() // 1000
    assert envelope.request_id == "req-1"
    (event,) = envelope.events
    assert (event.event_id, event.user_id, event.session_id, event.tags) == ("e-1", "user-1", "s-1", ["prod"])
    assert (event.service_type, event.service_provider, event.event_type) == ("llm_service", "openai", "completion")
    assert (event.model, event.metrics) == ("gpt-4", {"input_tokens": 150, "output_tokens": 75})
    assert event.metadata == '{"temperature":0.7}'
    assert (event.occurred_at, event.is_timestamped) == (envelope.received_at, False)


async def test_every_shipped_type_is_taken(front: Front) -> None:
    answer = await front.send("/events/batch", {"events": [llm_event("llm-1"), DOCUMENT, API_CALL]})
    assert answer.status_code == 202
    assert answer.json() == {
        "success": True,
        "processed_count": 3,
        "failed_count": 0,
        "failed_events": [],
        "event_ids": ["llm-1", "doc-1", "api-1"],
        "message": "3 events accepted",
    }
    _, document, call = await front.events()
    assert document.metrics == {"pages_processed": 5}
    assert json.loads(document.metadata) == {
        "document_type": "invoice",
        "processing_type": "extraction",
        "accuracy": 0.98,
    }
    assert call.metrics == {"request_count": 1}
    assert json.loads(call.metadata) == {"endpoint": "/v1/things", "method": "GET", "status_code": 200}


async def test_a_batch_is_one_envelope_however_it_is_written_and_packed(front: Front) -> None:
    events = [llm_event(f"e-{number}") for number in range(3)]
    wrapped, bare = json.dumps({"events": events}).encode(), json.dumps(events).encode()
    lines = b"\r\n\n".join(json.dumps(event).encode() for event in events) + b"\n"
    forms: list[tuple[bytes, dict[str, str]]] = [
        (wrapped, {}),
        (bare, {"Content-Type": "application/json; charset=utf-8"}),
        (b"\xef\xbb\xbf" + bare, {}),
        (lines, {"Content-Type": "application/x-ndjson"}),
        (gzip.compress(wrapped), {"Content-Encoding": "gzip"}),
        (gzip.compress(lines), {"Content-Encoding": "gzip", "Content-Type": "application/x-ndjson"}),
        (zstd.compress(bare), {"Content-Encoding": "zstd"}),
        (zstd.compress(bare, level=19), {"Content-Encoding": "ZSTD"}),
    ]
    for content, headers in forms:
        answer = await front.send("/events/batch", content, headers=headers)
        assert answer.status_code == 202, (headers, answer.text)
        assert answer.json()["event_ids"] == ["e-0", "e-1", "e-2"]
    envelopes = await front.envelopes()
    assert len(envelopes) == len(forms)
    assert len({envelope.receipt for envelope in envelopes}) == len(forms)
    assert len({tuple(event.fingerprint for event in envelope.events) for envelope in envelopes}) == 1


async def test_nested_and_flat_forms_of_an_event_are_the_same_event(front: Front) -> None:
    nested = llm_event("e-1", metadata={"model": "gpt-4", "temperature": 0.7})
    flat = {key: value for key, value in nested.items() if key not in ("metadata", "metrics")}
    flat |= {"model": "gpt-4", "temperature": 0.7, "input_tokens": 150, "output_tokens": 75}
    mixed = flat | {"metadata": {"input_tokens": 150}, "metrics": {"temperature": 0.7}}
    for form in (nested, flat, mixed):
        assert (await front.send("/events", form)).status_code == 202
    events = await front.events()
    assert len({event.fingerprint for event in events}) == 1
    assert events[0].metrics == events[1].metrics == events[2].metrics


async def test_numbers_keep_their_exact_digits(front: Front) -> None:
    body = b"""{"event_id": "e-1", "user_id": "u", "service_type": "llm_service", "model": "m",
        "metadata": {"price": 0.10, "tiny": 1e-7, "large": 123456789012345678901.5},
        "metrics": {"input_tokens": 1000000000000000000,
        "output_tokens": 0.000000000000000001, "ratio": 123456789.123456789123456789, "round": 15e1}}"""
    assert (await front.send("/events", body)).status_code == 202
    (event,) = await front.events()
    assert event.metrics == {
        "input_tokens": 10**18,
        "output_tokens": Decimal("0.000000000000000001"),
        "ratio": Decimal("123456789.123456789123456789"),
        "round": 150,
    }
    assert event.metadata == '{"large":123456789012345678901.5,"price":0.10,"tiny":1E-7}'


async def test_an_event_without_an_id_gets_one_that_sorts_by_time(front: Front) -> None:
    ids = []
    for _ in range(2):
        answer = await front.send("/events/batch", [llm_event("x") | {"event_id": None} for _ in range(50)])
        ids += answer.json()["event_ids"]
        await asyncio.sleep(0.002)
    assert len(set(ids)) == 100
    assert all(UUID(event_id).version == 7 for event_id in ids)
    assert max(ids[:50]) < min(ids[50:])
    assert [event.event_id for event in await front.events()] == ids


async def test_the_same_idempotency_key_gives_the_same_ids(front: Front) -> None:
    events = [llm_event("own-id"), *({**llm_event("x"), "event_id": None, "input_tokens": 150} for _ in range(2))]
    answers = [
        (await front.send("/events/batch", events, headers={"Idempotency-Key": key})).json()["event_ids"]
        for key in ("order-1", "order-1", "order-2")
    ]
    assert answers[0] == answers[1]
    assert [event_id == "own-id" for event_id in answers[0]] == [True, False, False]
    assert len({*answers[0], *answers[2]}) == 5
    first, again, _ = await front.envelopes()
    assert [event.fingerprint for event in first.events] == [event.fingerprint for event in again.events]


async def test_the_customer_header_holds_for_events_that_name_none(front: Front) -> None:
    events = [llm_event("e-1"), llm_event("e-2", customer_id="own")]
    answer = await front.send("/events/batch", events, headers={"X-Customer-ID": "acme"})
    assert answer.status_code == 202
    assert [event.customer_id for event in await front.events()] == ["acme", "own"]


async def test_good_events_of_a_mixed_batch_are_kept_and_the_others_are_named(front: Front) -> None:
    bad = llm_event("e-1", metrics={"input_tokens": -1, "output_tokens": 1})
    answer = await front.send("/events/batch", {"events": [llm_event("e-0"), bad, llm_event("e-2"), "no event"]})
    assert answer.status_code == 202
    body = answer.json()
    assert (body["success"], body["processed_count"], body["failed_count"]) == (False, 2, 2)
    assert body["message"] == "2 events accepted, 2 refused"
    first, second = body["failed_events"]
    assert first == {
        "index": 1,
        "field": "metrics.input_tokens",
        "code": "negative_quantity",
        "error": "metrics.input_tokens: must not be negative; corrections are made with a new event id",
        "event_data": bad,
    }
    assert (second["index"], second["code"], second["event_data"]) == (3, "wrong_type", "no event")
    assert [event.event_id for event in await front.events()] == ["e-0", "e-2"]


async def test_a_bad_line_does_not_spoil_the_other_lines(front: Front) -> None:
    good = [json.dumps(llm_event(f"e-{number}")).encode() for number in range(2)]
    content = b"\n".join([good[0], b'{"broken": ', b"\xff\xfe", good[1]])
    answer = await front.send("/events/batch", content, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code == 202
    assert [(item["index"], item["code"]) for item in answer.json()["failed_events"]] == [
        (1, "malformed_json"),
        (2, "malformed_json"),
    ]
    assert [event.event_id for event in await front.events()] == ["e-0", "e-1"]


async def test_no_more_than_a_hundred_refused_events_are_sent_back(front: Front) -> None:
    events: list[Any] = [llm_event(f"e-{number}") for number in range(500)]
    events += [llm_event(f"bad-{number}", user_id=None) for number in range(120)]
    answer = await front.send("/events/batch", events)
    assert answer.status_code == 202
    failed = answer.json()["failed_events"]
    assert [item["index"] for item in failed] == list(range(500, 620))
    assert [item["event_data"] is not None for item in failed] == [True] * 100 + [False] * 20


@pytest.mark.parametrize("path", ["/events", "/events/batch"])
async def test_the_largest_batch_and_body_are_accepted_and_one_more_is_not(
    front: Front, path: str, database_url: str
) -> None:
    count = 1000 if path == "/events/batch" else 1
    events: Any = [llm_event(f"e-{number}") for number in range(count)]
    answer = await front.send(path, events if count > 1 else events[0])
    assert answer.status_code == 202
    assert len(await front.events()) == count

"""Bad input: the right status, a code, the index and field, what to do; nothing of it on the queue, the good kept."""

import asyncio
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx2
import pytest
import uvicorn
from backports import zstd
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec import structs
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.api_gateway.app import create_app
from services.api_gateway.settings import ApiGatewaySettings
from shared.contracts.envelope import encode
from shared.queue.keys import QUEUE
from shared.storage.database import Database
from tests.conftest import SECRET
from tests.support.gateway import Front, problem_of
from tests.support.pipeline import drain, llm_event, make_processor

MAX_BODY = 8 * 1024 * 1024


def instant(**ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**ago)).isoformat()


def text_of(**fields: Any) -> bytes:
    return json.dumps(llm_event("bad") | fields).encode()


def raw(field: str, value: bytes) -> bytes:
    """An event with a value that json.dumps would not write."""
    return text_of(**{field: "@"}).replace(b'"@"', value)


def bad_events() -> dict[str, tuple[bytes, str, str]]:
    """Name: what is sent, the field and the code of the answer."""
    metrics = {"input_tokens": 1, "output_tokens": 1}
    deep = b'{"model":"m","a":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001
    return {
        "not an object": (b"5", "event", "wrong_type"),
        "null": (b"null", "event", "wrong_type"),
        "missing user": (text_of(user_id=None), "user_id", "missing_field"),
        "missing model": (text_of(metadata={}), "model", "missing_field"),
        "missing tokens": (text_of(metrics={"input_tokens": 1}), "output_tokens", "missing_field"),
        "wrong type of user": (text_of(user_id=7), "user_id", "wrong_type"),
        "tokens as text": (text_of(metrics=metrics | {"input_tokens": "1"}), "metrics.input_tokens", "wrong_type"),
        "metrics as list": (text_of(metrics=[]), "metrics", "wrong_type"),
        "tags as text": (text_of(tags="a"), "tags", "wrong_type"),
        "no service type": (text_of(service_type=None), "service_type", "missing_field"),
        "service type as list": (text_of(service_type=["llm_service"]), "service_type", "missing_field"),
        "unknown service type": (text_of(service_type="llm_servce"), "service_type", "unknown_service_type"),
        "unknown field": (text_of(tokens=5), "tokens", "unknown_field"),
        "negative": (text_of(metrics=metrics | {"input_tokens": -1}), "metrics.input_tokens", "negative_quantity"),
        "NaN": (text_of(metrics=metrics | {"x": float("nan")}), "metrics.x", "not_finite"),
        "infinity": (text_of(metrics=metrics | {"x": float("-inf")}), "metrics.x", "not_finite"),
        "huge": (text_of(metrics=metrics | {"x": 10**18 + 1}), "metrics.x", "quantity_too_large"),
        "huge exponent": (raw("latency_ms", b"1e999999999"), "latency_ms", "quantity_too_large"),
        "exponent beyond range": (raw("latency_ms", b"1e99999999999999999999"), "latency_ms", "not_finite"),
        "ten thousand digits": (raw("latency_ms", b"9" * 10_000), "latency_ms", "quantity_too_large"),
        "tiny": (raw("latency_ms", b"1e-999999999"), "latency_ms", "too_precise"),
        "NaN in metadata": (text_of(metadata={"model": "m", "x": float("nan")}), "metadata.x", "not_finite"),
        "no time zone": (text_of(timestamp="2026-01-01T00:00:00"), "timestamp", "no_time_zone"),
        "no instant": (text_of(timestamp="soon"), "timestamp", "invalid_timestamp"),
        "the future": (text_of(timestamp=instant(days=-2)), "timestamp", "in_the_future"),
        "too old": (text_of(timestamp=instant(days=366)), "timestamp", "too_old"),
        "long id": (text_of(event_id="x" * 200), "event_id", "too_long"),
        "long user": (text_of(user_id="x" * 200), "user_id", "too_long"),
        "NUL in user": (text_of(user_id="a\x00b"), "user_id", "invalid_text"),
        "NUL in model": (text_of(metadata={"model": "a\x00b"}), "model", "invalid_text"),
        "NUL in metadata": (text_of(metadata={"model": "m", "x": ["\x00"]}), "metadata.x", "invalid_text"),
        "lone surrogate": (text_of(user_id="a\ud800b"), "user_id", "invalid_text"),
        "surrogate as name": (text_of(**{"\ud800": 1}), "\\ud800", "unknown_field"),
        "invalid UTF-8": (raw("user_id", b'"a\xffb"'), "user_id", "invalid_text"),
        "overlong UTF-8": (raw("user_id", b'"a\xc0\x80b"'), "user_id", "invalid_text"),
        "nested": (text_of(metadata={"model": "m", "x": [[[[[[[[[1]]]]]]]]]}), "metadata.x", "too_deep"),
        "nested without end": (raw("metadata", deep), "metadata.a", "too_deep"),
        "large metadata": (text_of(metadata={"model": "m", "x": "x" * 20_000}), "metadata", "too_large"),
        "other tenant": (text_of(tenant_id="somebody-else"), "tenant_id", "tenant_mismatch"),
    }


async def test_a_bad_event_alone_is_refused_with_its_field_a_code_and_what_to_do(
    front: Front, subtests: pytest.Subtests
) -> None:
    for name, (content, field, code) in bad_events().items():
        with subtests.test(name):
            answer = await front.send("/events", content)
            status, problem_code = (403, "tenant_mismatch") if code == "tenant_mismatch" else (422, "invalid_events")
            (item,) = problem_of(answer, status, problem_code)["errors"]
            assert (item["index"], item["field"], item["code"]) == (0, field, code)
            assert item["message"]
            assert await front.queue_length() == 0


async def test_good_events_between_all_of_them_are_kept(front: Front) -> None:
    bad = bad_events()
    parts: list[bytes] = []
    for number, (content, _, _) in enumerate(bad.values()):
        parts += [content, json.dumps(llm_event(f"good-{number}")).encode()]
    answer = await front.send("/events/batch", b'{"events":[' + b",".join(parts) + b"]}")
    assert answer.status_code == 202, answer.text[:500]
    body = answer.json()
    assert [(item["index"], item["field"], item["code"]) for item in body["failed_events"]] == [
        (2 * number, field, code) for number, (_, field, code) in enumerate(bad.values())
    ]
    expected = [f"good-{number}" for number in range(len(bad))]
    assert body["event_ids"] == expected
    assert [event.event_id for event in await front.events()] == expected


async def test_a_batch_without_a_good_event_is_refused_whole(front: Front) -> None:
    answer = await front.send("/events/batch", [llm_event("a", user_id=""), 5])
    problem = problem_of(answer, 422, "invalid_events")
    assert problem["detail"].startswith("None of the 2 events could be accepted; the first: user_id: is required")
    assert [(item["index"], item["code"]) for item in problem["errors"]] == [(0, "missing_field"), (1, "wrong_type")]
    assert await front.queue_length() == 0


MALFORMED = [
    ("/events", b""),
    ("/events", b"{"),
    ("/events", b"{'event_id': 1}"),
    ("/events", b'{"a": 1} trailing'),
    ("/events", b"\x00"),
    ("/events", b"\xff\xfe{\x00}\x00"),
    ("/events", b"[" * 100_000),
    ("/events", b"[" * 2_000_000),
    ("/events", b"[" * 1_000_000 + b"]" * 1_000_000),
    ("/events", b"[]"),
    ("/events/batch", b"5"),
    ("/events/batch", b'"text"'),
    ("/events/batch", b"{}"),
    ("/events/batch", b'{"events": {}}'),
    ("/events/batch", b'{"events": null}'),
]


async def test_a_body_that_is_not_a_request_is_malformed(front: Front, subtests: pytest.Subtests) -> None:
    for path, content in MALFORMED:
        with subtests.test(f"{path} {content[:20]!r}"):
            problem_of(await front.send(path, content), 422, "invalid_request")
            assert await front.queue_length() == 0


async def test_a_batch_of_nothing_says_so(front: Front) -> None:
    for content in (b"[]", b'{"events": []}'):
        problem = problem_of(await front.send("/events/batch", content), 422, "invalid_events")
        assert problem["detail"] == "The request holds no events."


async def test_a_body_over_the_limit_is_refused_in_every_packing(front: Front) -> None:
    large = b" " * (10 * 1024 * 1024)
    for content, headers in (
        (large, {}),
        (gzip.compress(large), {"Content-Encoding": "gzip"}),
        (zstd.compress(large), {"Content-Encoding": "zstd"}),
        (large, {"Content-Encoding": "gzip"}),
    ):
        problem = problem_of(await front.send("/events/batch", content, headers=headers), 413, "payload_too_large")
        assert "send fewer events" in problem["detail"]
    assert await front.queue_length() == 0


async def test_a_body_of_exactly_the_limit_is_read_and_one_byte_more_is_not(front: Front) -> None:
    event = json.dumps(llm_event("e-1")).encode()
    full = event + b" " * (MAX_BODY - len(event))
    forms: list[tuple[dict[str, str], Callable[[bytes], bytes]]] = [
        ({}, bytes),
        ({"Content-Encoding": "gzip"}, gzip.compress),
        ({"Content-Encoding": "zstd"}, zstd.compress),
    ]
    for headers, pack in forms:
        assert (await front.send("/events", pack(full), headers=headers)).status_code == 202
        problem_of(await front.send("/events", pack(full + b" "), headers=headers), 413, "payload_too_large")
    assert await front.queue_length() == 3


async def test_bombs_are_not_unpacked(front: Front) -> None:
    bomb = gzip.compress(b"\x00" * 200_000_000, compresslevel=1)
    assert len(bomb) < 1_000_000
    problem_of(await front.send("/events", bomb, headers={"Content-Encoding": "gzip"}), 413, "payload_too_large")
    window = {int(zstd.CompressionParameter.window_log): 27}
    packer = zstd.ZstdCompressor(options=window)
    wide = packer.compress(json.dumps(llm_event("e-1")).encode()) + packer.flush()
    problem_of(await front.send("/events", wide, headers={"Content-Encoding": "zstd"}), 422, "invalid_request")
    assert await front.queue_length() == 0


async def test_a_broken_packing_is_malformed_and_an_unknown_one_unsupported(front: Front) -> None:
    event = json.dumps(llm_event("e-1")).encode()
    for encoding, content in (
        ("gzip", event),
        ("gzip", gzip.compress(event)[:-5]),
        ("gzip", gzip.compress(event) + b"more"),
        ("gzip", b""),
        ("zstd", event),
        ("zstd", zstd.compress(event)[:-5]),
        ("zstd", zstd.compress(event) + b"more"),
        ("zstd", b""),
    ):
        problem_of(await front.send("/events", content, headers={"Content-Encoding": encoding}), 422, "invalid_request")
    for headers in (
        {"Content-Encoding": "br"},
        {"Content-Encoding": "gzip, gzip"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/xml"},
    ):
        problem_of(await front.send("/events", event, headers=headers), 415, "unsupported_media_type")
    assert await front.queue_length() == 0


async def test_one_event_more_than_a_batch_may_hold_is_too_many(front: Front) -> None:
    events = [llm_event(f"e-{number}") for number in range(1001)]
    problem_of(await front.send("/events/batch", {"events": events}), 413, "payload_too_large")
    lines = b"\n".join(json.dumps(event).encode() for event in events)
    ndjson = {"Content-Type": "application/x-ndjson"}
    problem_of(await front.send("/events/batch", lines, headers=ndjson), 413, "payload_too_large")
    problem_of(await front.send("/events/batch", b"1\n" * 4_000_000, headers=ndjson), 413, "payload_too_large")
    assert await front.queue_length() == 0


async def test_headers_are_held_to_the_same_bounds(front: Front) -> None:
    for name in ("Idempotency-Key", "X-Customer-ID"):
        answer = await front.send("/events", llm_event("e-1"), headers={name: "x" * 129})
        assert name in problem_of(answer, 422, "invalid_request")["detail"]
    assert await front.queue_length() == 0


async def test_a_sender_that_hangs_up_in_the_middle_leaves_nothing_behind(front: Front) -> None:
    beginning = {"type": "http.request", "body": b'{"event_id":', "more_body": True}
    assert await front.speak("POST", "/api/v1/events", messages=[beginning]) == 422
    assert await front.queue_length() == 0


async def test_a_large_body_is_refused_over_a_real_connection_too(
    front: Front, database_url: str, redis_url: str
) -> None:
    """The answer arrives although the sender is still sending, and the same server goes on serving."""
    settings = ApiGatewaySettings(
        database_url=SecretStr(database_url), redis_url=SecretStr(redis_url), api_secret_key=SecretStr(SECRET)
    )
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", log_level="error"))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.01)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/api/v1/events"
    headers = {"X-API-Key": front.tenant.key, "Content-Type": "application/json"}
    try:
        async with httpx2.AsyncClient(headers=headers, timeout=10) as client:
            problem_of(await client.post(url, content=b"x" * 10 * 1024 * 1024), 413, "payload_too_large")
            assert (await client.post(url, json=llm_event("e-1"))).status_code == 202
    finally:
        server.should_exit = True
        await task
    assert [event.event_id for event in await front.events()] == ["e-1"]


async def test_nothing_unreadable_in_the_queue_stops_a_processor(
    front: Front, pool: asyncpg.Pool, database: Database
) -> None:
    """While most of what is queued can be read: past that it holds, lest a bad release should empty the queue."""
    for number in range(20):
        assert (await front.send("/events", llm_event(f"e-{number}"))).status_code == 202
    good = (await front.envelopes())[0]
    (event,) = good.events

    def poisoned(**changes: Any) -> bytes:
        return encode(structs.replace(good, receipt=good.receipt ^ 1, events=[structs.replace(event, **changes)]))

    poison = [
        b"",
        b"\x00",
        b"not an envelope",
        b'{"events": []}',
        b"\x91" * 100_000,
        encode(structs.replace(good, version=99)),
        encode(structs.replace(good, tenant=-1)),
        encode(good)[:-3],
        poisoned(event_id="a", user_id="\x00"),
        poisoned(event_id="b", metadata="{not json"),
        poisoned(event_id="c", metadata='"\\u0000"'),
        poisoned(event_id="d", occurred_at=2**62),
        poisoned(event_id="e", metrics={"input_tokens": Decimal("NaN")}),
    ]
    await front.redis.rpush(QUEUE, *poison)
    assert (await front.send("/events", llm_event("e-last"))).status_code == 202
    before = await pool.fetchval("SELECT count(*) FROM dead_letter_events")
    with capture_logs():
        await drain(front.redis, make_processor(front.redis, pool, database))
    rows = await pool.fetch("SELECT event_id FROM usage_events WHERE tenant = $1", front.tenant.scope.number)
    assert {row["event_id"] for row in rows} == {"e-last", *(f"e-{number}" for number in range(20))}
    assert await front.queue_length() == 0
    assert await pool.fetchval("SELECT count(*) FROM dead_letter_events") - before == len(poison)


# --- anything at all --------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=6),
        st.sampled_from(["llm_service", "api_service", "gpt-4", "2026-01-01T00:00:00Z", 10**30, -1, 1e300]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["events", "event_id", "user_id", "service_type", "metrics", "metadata", "model", "tags", "timestamp",
                 "input_tokens", "output_tokens", "endpoint", "method", "tenant_id", "status", "", "\ud800", "x"]
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=12,
)  # fmt: skip
near_events = st.dictionaries(
    st.sampled_from(sorted({*llm_event("x"), "tags", "timestamp", "customer_id", "latency_ms", "temperature", "own"})),
    json_values,
    max_size=3,
).map(lambda changes: llm_event("e") | changes)
bodies = st.one_of(
    st.one_of(json_values, near_events, st.lists(near_events, max_size=4)).map(
        lambda value: json.dumps(value).encode()
    ),
    st.binary(max_size=60),
)
content_types = st.sampled_from(["application/json", "application/x-ndjson"])


@given(bodies, st.sampled_from(["/events", "/events/batch"]), content_types)
@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_whatever_is_an_error_of_ours_or_leaves_something_unreadable(
    front: Front, body: bytes, path: str, content_type: str
) -> None:
    await front.redis.delete("usage_events")
    answer = await front.send(path, body, headers={"Content-Type": content_type})
    events = await front.events()  # reads every element as a processor does
    if answer.status_code == 202:
        accepted = answer.json()
        assert len(events) == accepted.get("processed_count", 1)
        assert [event.event_id for event in events] == accepted.get("event_ids", [accepted.get("event_id")])
    else:
        assert answer.status_code in (403, 413, 422)
        problem_of(answer, answer.status_code, answer.json()["code"])
        assert events == []

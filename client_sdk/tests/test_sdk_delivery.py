"""Every event reaches the server, once as far as its id tells, whatever happens on the way."""

import asyncio
import time
from typing import Any

import pytest

from client_sdk import APIError, AuthenticationError, FlushError, ServiceUnavailableError, TimeoutError, TransportError


async def test_events_go_in_order_in_batches_of_at_most_batch_size(server: Any, make_tracker: Any, kit: Any) -> None:
    async with make_tracker(batch_size=10, max_concurrent_batches=1) as tracker:
        ids = await kit.track(tracker, 25)
    assert [len(request.events) for request in server.requests] == [10, 10, 5]
    assert server.accepted_ids == ids


async def test_a_full_batch_is_sent_without_waiting_for_age(server: Any, make_tracker: Any, kit: Any) -> None:
    async with make_tracker(batch_size=5, flush_interval_seconds=60) as tracker:
        await kit.track(tracker, 7)
        await server.wait_for_requests(1)
        await asyncio.sleep(0.05)
        assert [len(request.events) for request in server.requests] == [5]
        assert tracker.stats.buffered == 2


async def test_a_lone_event_is_sent_when_it_is_old_enough(server: Any, make_tracker: Any, kit: Any) -> None:
    async with make_tracker(flush_interval_seconds=0.1) as tracker:
        started = asyncio.get_running_loop().time()
        await kit.track(tracker)
        await asyncio.sleep(0.03)
        await kit.track(tracker)
        await server.wait_for_requests(1)
        assert 0.09 < server.requests[0].at - started < 1
        assert len(server.requests[0].events) == 2


async def test_headers_name_the_key_and_the_tenant(server: Any, make_tracker: Any, kit: Any) -> None:
    async with make_tracker(tenant_id="acme") as tracker:
        await kit.track(tracker)
    request = server.requests[0]
    assert (request.method, request.target) == ("POST", "/api/v1/events/batch")
    assert request.headers["x-api-key"] == "key-1"
    assert request.headers["x-tenant-id"] == "acme"
    assert request.headers["content-type"] == "application/json"
    assert "content-encoding" not in request.headers


async def test_large_bodies_are_compressed(server: Any, make_tracker: Any, kit: Any) -> None:
    async with make_tracker() as tracker:
        ids = await kit.track(tracker, 50)
    assert server.requests[0].headers["content-encoding"] == "gzip"
    assert len(server.requests[0].raw) < len(server.requests[0].body) / 3
    assert server.accepted_ids == ids


async def test_ids_and_timestamps_stay_the_same_through_retries(server: Any, make_tracker: Any, kit: Any) -> None:
    html = kit.Reply(200, b"<html>sign in</html>")
    server.script = [kit.problem(503), kit.problem(500), kit.Reset(), kit.problem(408), html, kit.problem(429)]
    async with make_tracker() as tracker:
        ids = await kit.track(tracker, 3)
        await server.wait_for_requests(7)
    assert [request.ids for request in server.requests] == [ids] * 7
    assert len({request.body for request in server.requests}) == 1
    stats = tracker.stats
    assert (stats.queued, stats.sent, stats.retried, stats.buffered) == (3, 3, 6, 0)


async def test_retries_go_on_for_ever_while_the_tracker_is_open(server: Any, make_tracker: Any, kit: Any) -> None:
    server.default = kit.problem(503)
    tracker = make_tracker(max_retries=0, backoff_max_seconds=0.005)
    ids = await kit.track(tracker, 2)
    await server.wait_for_requests(12)
    server.default = kit.accept
    await tracker.flush()
    assert server.requests[-1].ids == ids
    await tracker.close()


async def test_a_server_that_is_not_there_yet(server: Any, make_tracker: Any, kit: Any) -> None:
    await server.stop()
    tracker = make_tracker()
    ids = await kit.track(tracker, 2)
    await asyncio.sleep(0.03)
    assert tracker.stats.buffered == 2
    port = int(server.url.rpartition(":")[2])
    server._server = await asyncio.start_server(server._serve, "127.0.0.1", port)
    await tracker.close()
    assert server.accepted_ids == ids


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_obeyed_even_by_flush(server: Any, make_tracker: Any, kit: Any, status: int) -> None:
    reply = kit.problem(status)
    reply.headers["Retry-After"] = "1"
    server.script = [reply]
    async with make_tracker(batch_size=1, max_concurrent_batches=2) as tracker:
        await kit.track(tracker)
        await server.wait_for_requests(1)
        await asyncio.sleep(0.02)
        await kit.track(tracker)  # another batch: the server's word holds for it too
        await tracker.flush()
    first, *later = server.requests
    assert len(later) == 2
    assert all(1.0 <= request.at - first.at < 1.6 for request in later)


async def test_a_hanging_server_is_given_up_on_and_asked_again(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker(timeout_seconds=0.05)
    await kit.track(tracker)
    await server.wait_for_requests(2)
    server.gate.set()
    await tracker.close()
    assert tracker.stats.sent == 1
    assert tracker.stats.retried >= 1


async def test_rejected_events_are_told_and_the_others_are_kept(server: Any, make_tracker: Any, kit: Any) -> None:
    rejected = []
    server.script = [kit.refuse(1)]
    async with make_tracker(on_rejected=lambda event, reason: rejected.append((event["event_id"], reason))) as tracker:
        ids = await kit.track(tracker, 3)
    assert rejected == [(ids[1], "bad 1")]
    assert (tracker.stats.sent, tracker.stats.rejected, tracker.stats.buffered) == (2, 1, 0)
    assert len(server.requests) == 1


async def test_a_failing_callback_stops_nothing(
    server: Any, make_tracker: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: dict[str, Any], reason: str) -> None:
        raise RuntimeError("the caller's own fault")

    server.script = [kit.refuse(0, 1)]
    async with make_tracker(on_rejected=fail) as tracker:
        await kit.track(tracker, 3)
        await tracker.flush()
        await kit.track(tracker)
    assert (tracker.stats.sent, tracker.stats.rejected) == (2, 2)
    assert caplog.text.count("on_rejected_failed") == 2
    assert "events_rejected event_count=2 first_reason=bad 0" in caplog.text


@pytest.mark.parametrize("status", [403, 422])
async def test_a_wholly_refused_batch_is_rejected_by_index(
    server: Any, make_tracker: Any, kit: Any, status: int
) -> None:
    reasons = []
    errors = [
        {"index": 0, "field": "metrics.input_tokens", "code": "range", "message": "must be >= 0"},
        {"index": 0, "field": "user_id", "code": "empty", "message": "is empty"},
        {"index": 1, "code": "unknown_service"},
    ]
    server.script = [kit.problem(status, errors=errors)]
    async with make_tracker(on_rejected=lambda event, reason: reasons.append(reason)) as tracker:
        await kit.track(tracker, 2)
    assert reasons == ["metrics.input_tokens: must be >= 0; user_id: is empty", "unknown_service"]
    assert (tracker.stats.sent, tracker.stats.rejected) == (0, 2)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_one_bad_event_is_found_and_costs_no_good_one(
    server: Any, make_tracker: Any, kit: Any, status: int
) -> None:
    """The server only says that something in the body is wrong."""

    def answer(request: Any) -> Any:
        return kit.problem(status, "unreadable") if b'"input_tokens":5,' in request.body else kit.accept(request)

    server.default = answer
    rejected = []
    async with make_tracker(on_rejected=lambda event, reason: rejected.append((event["event_id"], reason))) as tracker:
        ids = await kit.track(tracker, 8)
    assert rejected == [(ids[5], f"HTTP {status}: unreadable")]
    assert (tracker.stats.sent, tracker.stats.rejected, tracker.stats.buffered) == (7, 1, 0)


async def test_too_large_a_batch_is_halved_and_stays_in_order(server: Any, make_tracker: Any, kit: Any) -> None:
    taken: list[str] = []

    def answer(request: Any) -> Any:
        if len(request.events) > 3:
            return kit.problem(413)
        taken.extend(request.ids)
        return kit.accept(request)

    server.default = answer
    async with make_tracker() as tracker:
        ids = await kit.track(tracker, 10)
    assert taken == ids
    assert [len(request.events) for request in server.requests] == [10, 5, 2, 3, 5, 2, 3]
    assert tracker.stats.retried == 0


async def test_a_count_of_failures_without_names_is_asked_again(server: Any, make_tracker: Any, kit: Any) -> None:
    server.script = [kit.Reply(202, {"processed_count": 1, "failed_count": 1, "failed_events": []})]
    async with make_tracker() as tracker:
        await kit.track(tracker, 2)
    assert [len(request.events) for request in server.requests] == [2, 1, 1]
    assert tracker.stats.sent == 2


async def test_duplicates_are_counted_when_the_server_says(server: Any, make_tracker: Any, kit: Any) -> None:
    server.script = [kit.Reply(202, {"processed_count": 2, "failed_count": 0, "duplicate_count": 1})]
    async with make_tracker() as tracker:
        await kit.track(tracker, 2)
    assert (tracker.stats.sent, tracker.stats.duplicate) == (2, 1)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_key_or_address_loses_nothing(
    server: Any, make_tracker: Any, kit: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.default = kit.problem(status, "key disabled")
    tracker = make_tracker(refused_retry_seconds=60)
    ids = await kit.track(tracker, 2)
    await server.wait_for_requests(1)
    with pytest.raises(FlushError) as caught:
        await tracker.flush()
    assert caught.value.unsent_count == 2
    assert isinstance(caught.value.__cause__, APIError)
    assert isinstance(caught.value.__cause__, AuthenticationError) is (status != 404)
    assert "key disabled" in str(caught.value.__cause__)
    assert "key-1" not in caplog.text
    assert "ERROR" in caplog.text
    server.default = kit.accept
    await tracker.close()
    assert server.requests[-1].ids == ids
    assert tracker.stats.sent == 2


async def test_batches_travel_side_by_side_up_to_the_limit(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker(batch_size=1, max_concurrent_batches=3)
    await kit.track(tracker, 10)
    await server.wait_for_requests(3)
    await asyncio.sleep(0.02)
    assert len(server.requests) == 3
    server.gate.set()
    await tracker.close()
    assert server.most_in_flight == 3
    assert tracker.stats.sent == 10


async def test_flush_waits_for_what_was_tracked_before_it_only(server: Any, make_tracker: Any, kit: Any) -> None:
    tracker = make_tracker(flush_interval_seconds=60)
    await kit.track(tracker, 2)
    server.gate.clear()
    flushing = asyncio.create_task(tracker.flush())
    await server.wait_for_requests(1)
    await kit.track(tracker)
    server.gate.set()
    await flushing
    assert (tracker.stats.sent, tracker.stats.buffered) == (2, 1)
    await tracker.flush()
    assert tracker.stats.sent == 3
    await tracker.close()


async def test_flush_gives_up_in_time_and_keeps_the_events(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker()
    await kit.track(tracker, 2)
    started = time.monotonic()
    with pytest.raises(FlushError) as caught:
        await tracker.flush(timeout_seconds=0.05)
    assert time.monotonic() - started < 1
    assert caught.value.unsent_count == tracker.stats.buffered == 2
    server.gate.set()
    await tracker.close()
    assert tracker.stats.sent == 2


async def test_flush_gives_up_after_max_retries(server: Any, make_tracker: Any, kit: Any) -> None:
    server.default = kit.problem(503)
    tracker = make_tracker(max_retries=3, flush_interval_seconds=60)
    await kit.track(tracker)
    with pytest.raises(FlushError) as caught:
        await tracker.flush()
    assert isinstance(caught.value.__cause__, ServiceUnavailableError)
    assert len(server.requests) == 4
    server.default = kit.accept
    await tracker.close()


async def test_flush_says_that_no_answer_came(server: Any, make_tracker: Any, kit: Any) -> None:
    server.default = kit.Reset()
    tracker = make_tracker(max_retries=0)
    await kit.track(tracker)
    with pytest.raises(FlushError) as caught:
        await tracker.flush()
    assert type(caught.value.__cause__) is TransportError
    server.gate.clear()
    slow = make_tracker(max_retries=0, timeout_seconds=0.03)
    await kit.track(slow)
    with pytest.raises(FlushError) as caught:
        await slow.flush()
    assert type(caught.value.__cause__) is TimeoutError
    server.default = kit.accept
    server.gate.set()
    await tracker.close()
    await slow.close()


async def test_flush_cuts_a_long_backoff_short(server: Any, make_tracker: Any, kit: Any) -> None:
    server.script = [kit.problem(401)]
    tracker = make_tracker(refused_retry_seconds=600)
    await kit.track(tracker)
    await server.wait_for_requests(1)
    await asyncio.sleep(0.02)
    await tracker.flush(timeout_seconds=2)
    assert tracker.stats.sent == 1
    await tracker.close()


async def test_flush_asks_once_more_when_the_request_under_way_fails(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    server.script = [kit.problem(401)]
    tracker = make_tracker(refused_retry_seconds=600, max_retries=0)
    await kit.track(tracker)
    await server.wait_for_requests(1)
    flushing = asyncio.create_task(tracker.flush(timeout_seconds=2))
    await asyncio.sleep(0.01)
    server.gate.set()
    await flushing
    assert tracker.stats.sent == 1
    await tracker.close()


async def test_a_fast_caller_loses_nothing(server: Any, make_tracker: Any, kit: Any) -> None:
    """A loop that does nothing but track must still let the sender work: more events than the buffer holds."""
    async with make_tracker(max_buffer_events=5_000, batch_size=500, on_full="wait") as tracker:
        ids = await kit.track(tracker, 20_000)
    assert tracker.stats.sent == 20_000
    assert sorted(server.accepted_ids) == sorted(ids)

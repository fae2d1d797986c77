"""The buffer's limits, closing, and what happens when nobody closes."""

import asyncio
import gc
import warnings
from typing import Any

import httpx2
import pytest

from client_sdk import (
    BufferFullError,
    ConfigurationError,
    FlushError,
    TrackerClosedError,
    UsageTracker,
    WrongEventLoopError,
)


def accept(request: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(202, json={"processed_count": 1, "failed_count": 0, "failed_events": []})


def refuse_connection(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("nobody there")


async def test_the_newest_is_dropped_and_counted(
    server: Any, make_tracker: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.gate.clear()
    tracker = make_tracker(max_buffer_events=3, flush_interval_seconds=60)
    ids = await kit.track(tracker, 5)
    assert len(set(ids)) == 5
    stats = tracker.stats
    assert (stats.queued, stats.buffered, stats.dropped) == (3, 3, 2)
    assert caplog.text.count("buffer_full") == 1
    server.gate.set()
    await tracker.close()
    assert server.accepted_ids == ids[:3]


async def test_raise_says_so_to_the_caller(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker(max_buffer_events=2, on_full="raise")
    await kit.track(tracker, 2)
    with pytest.raises(BufferFullError):
        await kit.track(tracker)
    server.gate.set()
    await tracker.flush()
    await kit.track(tracker)
    await tracker.close()
    assert (tracker.stats.sent, tracker.stats.dropped) == (3, 0)


async def test_wait_holds_the_caller_until_there_is_room(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker(max_buffer_events=2, on_full="wait")
    first = await kit.track(tracker, 2)
    waiting = asyncio.create_task(kit.track(tracker, 3))
    await server.wait_for_requests(1)
    await asyncio.sleep(0.02)
    assert not waiting.done()
    server.gate.set()
    rest = await waiting
    await tracker.close()
    assert server.accepted_ids == first + rest


async def test_closing_frees_those_who_wait_for_room(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker(max_buffer_events=1, on_full="wait")
    await kit.track(tracker)
    waiting = asyncio.create_task(kit.track(tracker))
    await server.wait_for_requests(1)
    with pytest.raises(FlushError):
        await tracker.close(timeout_seconds=0.02)
    with pytest.raises(TrackerClosedError):
        await waiting


async def test_close_drains_and_ends_everything(server: Any, make_tracker: Any, kit: Any) -> None:
    tracker = make_tracker(flush_interval_seconds=60, batch_size=4)
    ids = await kit.track(tracker, 10)
    await tracker.close()
    await tracker.close()
    assert sorted(server.accepted_ids) == sorted(ids)
    with pytest.raises(TrackerClosedError):
        await kit.track(tracker)
    with pytest.raises(TrackerClosedError):
        await tracker.get_usage()
    assert [task.get_name() for task in asyncio.all_tasks() if "usage-tracker" in task.get_name()] == []


async def test_a_tracker_never_used_closes_too(make_tracker: Any) -> None:
    await make_tracker().close()
    async with make_tracker():
        pass


async def test_what_close_could_not_send_can_be_had(server: Any, make_tracker: Any, kit: Any) -> None:
    server.default = kit.problem(503)
    tracker = make_tracker(max_retries=1)
    with pytest.raises(FlushError) as caught:
        async with tracker:
            ids = await kit.track(tracker, 3)
    assert caught.value.unsent_count == 3
    assert [event["event_id"] for event in tracker.unsent_events()] == ids


async def test_the_bodys_exception_goes_before_the_flush_error(
    server: Any, make_tracker: Any, kit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.default = kit.problem(503)

    async def fail() -> None:
        async with make_tracker(max_retries=0) as tracker:
            await kit.track(tracker, 2)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert "close_incomplete unsent_event_count=2" in caplog.text


async def test_cancelling_close_leaves_no_task(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker()
    await kit.track(tracker)
    closing = asyncio.create_task(tracker.close())
    await server.wait_for_requests(1)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert [task.get_name() for task in asyncio.all_tasks() if "usage-tracker" in task.get_name()] == []
    assert len(tracker.unsent_events()) == 1


async def test_a_cancelled_sender_is_replaced_and_loses_nothing(server: Any, make_tracker: Any, kit: Any) -> None:
    server.gate.clear()
    tracker = make_tracker(batch_size=1)
    ids = await kit.track(tracker, 3)
    await server.wait_for_requests(2)
    flushing = asyncio.create_task(tracker.flush())
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == "usage-tracker-sender":
            task.cancel()
    with pytest.raises(FlushError):
        await flushing
    server.gate.set()
    await tracker.close()
    assert set(server.accepted_ids) == set(ids)
    assert tracker.stats.sent == 3


def test_a_loop_that_ends_without_close_is_told_of() -> None:
    async def forget() -> UsageTracker:
        tracker = UsageTracker("k", transport=httpx2.MockTransport(refuse_connection), batch_size=1)
        for _ in range(3):
            await tracker.track_api(user_id="u", endpoint="/x", method="GET")
        await asyncio.sleep(0.01)
        return tracker

    tracker = asyncio.run(forget())
    assert tracker.stats.buffered == 3
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del tracker
        gc.collect()
    assert "a UsageTracker was not closed: 3 events were not sent" in [str(warning.message) for warning in warned]


def test_a_closed_tracker_warns_of_nothing() -> None:
    async def use() -> None:
        async with UsageTracker("k", transport=httpx2.MockTransport(accept)) as tracker:
            await tracker.track_api(user_id="u", endpoint="/x", method="GET")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(use())
        gc.collect()


def test_the_next_loop_takes_up_where_the_last_one_ended() -> None:
    answers = [refuse_connection]
    seen: list[bytes] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.content)
        return answers[0](request)

    tracker = UsageTracker("k", transport=httpx2.MockTransport(answer), batch_size=1)

    async def track() -> str:
        event_id = await tracker.track_api(user_id="u", endpoint="/x", method="GET")
        await asyncio.sleep(0.01)
        return event_id

    event_id = asyncio.run(track())
    assert tracker.stats.buffered == 1
    answers[0] = accept
    asyncio.run(tracker.close())
    assert tracker.stats.sent == 1
    assert event_id.encode() in seen[-1]


async def test_a_tracker_is_not_shared_between_running_loops(make_tracker: Any, kit: Any) -> None:
    async with make_tracker() as tracker:
        with pytest.raises(WrongEventLoopError):
            await asyncio.to_thread(asyncio.run, kit.track(tracker))


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (("",), {}),
        ((None,), {}),
        (("schlüssel",), {}),
        (("k\r\nX-Evil: 1",), {}),
        (("k", "localhost:8000"), {}),
        (("k", "ftp://host"), {}),
        (("k", "http://host", ""), {}),
        (("k",), {"batch_size": 0}),
        (("k",), {"max_retries": -1}),
        (("k",), {"on_full": "explode"}),
        (("k",), {"timeout_seconds": float("nan")}),
    ],
)
def test_wrong_settings_are_refused(arguments: tuple[Any, ...], settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        UsageTracker(*arguments, **settings)

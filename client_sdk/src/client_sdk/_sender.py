"""The background task: cuts batches by size and age, sends them, and sends them again until the server has answered."""

import asyncio
import gzip
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from random import SystemRandom
from typing import Any

import httpx2

from client_sdk._answers import Answer, read_answer
from client_sdk._buffer import Batch, EventBuffer
from client_sdk._http import ask
from client_sdk.exceptions import (
    APIError,
    FlushError,
    RateLimitError,
    ServiceUnavailableError,
    TransportError,
    UsageTrackerError,
)

_log = logging.getLogger("client_sdk")
_random = SystemRandom()

_PATH = "/api/v1/events/batch"
_GZIP_FROM_BYTES = 1024
_DOUBLINGS = 30  # of the backoff; more would overflow and mean nothing

RejectionCallback = Callable[[dict[str, Any], str], object]


@dataclass(frozen=True, slots=True)
class SendingSettings:
    batch_size: int
    flush_interval_seconds: float
    max_concurrent_batches: int
    max_retries: int
    backoff_initial_seconds: float
    backoff_max_seconds: float
    refused_retry_seconds: float


class Pulse:
    """Wakes whoever is waiting now. Nothing is lost as long as no await stands between looking and waiting."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def send(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_seconds: float | None = None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()


class Sender:
    """Lives on one event loop and owns nothing worth keeping: all events stay in the buffer until they are answered."""

    def __init__(
        self,
        *,
        buffer: EventBuffer,
        client: httpx2.AsyncClient,
        settings: SendingSettings,
        on_rejected: RejectionCallback | None,
    ) -> None:
        self._buffer = buffer
        self._client = client
        self._settings = settings
        self._on_rejected = on_rejected
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(settings.max_concurrent_batches)
        self._arrival = Pulse()
        self._hurry = Pulse()
        self.progress = Pulse()  # a piece was answered or an attempt failed
        self._flush_through = 0  # events with a smaller number are due at once
        self._resume_at = 0.0  # the server's Retry-After, for every batch alike
        buffer.reclaim()
        self._task = self._loop.create_task(self._run(), name="usage-tracker-sender")

    @property
    def is_running(self) -> bool:
        return not self._task.done()

    @property
    def has_full_batch(self) -> bool:
        return len(self._buffer.waiting) >= self._settings.batch_size

    def add(self, body: bytes) -> None:
        self._buffer.add(body, self._loop.time())
        # The first event starts the clock of the age limit, a full batch need not wait for it.
        if len(self._buffer.waiting) == 1 or self.has_full_batch or self._buffer.is_full:
            self._arrival.send()

    async def flush(self, timeout_seconds: float | None) -> None:
        """Returns when everything added before the call is answered for, or a batch has failed 1 + `max_retries` times.

        A request already under way is not one of those: it may have left before whatever the caller waited for.
        """
        mark = self._buffer.queued_count
        started_with = {batch: batch.failure_count + batch.is_asking for batch in self._buffer.in_flight}
        deadline = None if timeout_seconds is None else self._loop.time() + timeout_seconds
        self._flush_through = mark
        self._arrival.send()
        for batch in self._buffer.in_flight:
            batch.is_hurried = True
        self._hurry.send()
        while self._buffer.answered_through < mark:
            batches = [batch for batch in self._buffer.in_flight if batch.pieces and batch.first_number < mark]
            for batch in batches:
                retries = self._settings.max_retries if _may_pass(batch.last_error) else 0
                if batch.failure_count - started_with.get(batch, 0) > retries:
                    raise self._flush_error(mark, "the server did not take them") from batch.last_error
            remaining = None if deadline is None else deadline - self._loop.time()
            if remaining is not None and remaining <= 0:
                last_error = next((batch.last_error for batch in batches if batch.last_error), None)
                raise self._flush_error(mark, f"not answered in {timeout_seconds} s") from last_error
            if not self.is_running:
                raise self._flush_error(mark, "the event loop's tasks were cancelled")
            await self.progress.wait(remaining)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    def _flush_error(self, mark: int, why: str) -> FlushError:
        unsent_count = sum(event.number < mark for event in self._buffer.unanswered())
        return FlushError(f"{unsent_count} events are not delivered: {why}", unsent_count=unsent_count)

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as deliveries:
                while True:
                    await self._slots.acquire()
                    await self._wait_until_due()
                    deliveries.create_task(self._deliver(self._buffer.take(self._settings.batch_size)))
        finally:
            self.progress.send()  # a flush must learn that nobody works for it any more

    async def _wait_until_due(self) -> None:
        while True:
            waiting = self._buffer.waiting
            seconds_left: float | None = None
            if waiting:
                age_seconds = self._loop.time() - waiting[0].queued_at
                seconds_left = self._settings.flush_interval_seconds - age_seconds
                is_flushed = waiting[0].number < self._flush_through
                if self.has_full_batch or self._buffer.is_full or is_flushed or seconds_left <= 0:
                    return
            await self._arrival.wait(seconds_left)

    async def _deliver(self, batch: Batch) -> None:
        try:
            while batch.pieces:
                piece = batch.pieces[0]
                try:
                    answer = await self._send(batch)
                except UsageTrackerError as error:
                    await self._back_off(batch, error)
                    continue
                if answer.unclear is None:
                    self._settle(batch, answer)
                elif len(piece) > 1:
                    batch.split()
                else:
                    self._settle(batch, Answer({0: answer.unclear}))
        finally:
            self._slots.release()

    async def _send(self, batch: Batch) -> Answer:
        while (wait_seconds := self._resume_at - self._loop.time()) > 0:  # noqa: ASYNC110  # until a moment that may move
            await asyncio.sleep(wait_seconds)
        piece = batch.pieces[0]
        body = b'{"events":[' + b",".join(event.body for event in piece) + b"]}"
        headers = {"Content-Type": "application/json"}
        if len(body) > _GZIP_FROM_BYTES:
            # The fastest level: events are alike, so it already saves most, and the caller's loop waits for it.
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
        batch.is_asking, batch.is_hurried = True, False
        try:
            return read_answer(await ask(self._client, "POST", _PATH, content=body, headers=headers), len(piece))
        except UsageTrackerError:
            raise
        except Exception as error:  # a fault of ours or of the transport must cost a delay, never the events
            _log.exception("batch_send_failed event_count=%d", len(piece))
            raise TransportError(f"{type(error).__name__}: {error}") from error
        finally:
            batch.is_asking = False

    async def _back_off(self, batch: Batch, error: UsageTrackerError) -> None:
        """Full jitter for what may pass by itself; a slow steady beat for what someone has to put right."""
        batch.failure_count += 1
        batch.last_error = error
        self._buffer.retried_count += 1
        if _may_pass(error):
            ceiling = self._settings.backoff_initial_seconds * 2 ** min(batch.failure_count - 1, _DOUBLINGS)
            delay_seconds = _random.uniform(0, min(ceiling, self._settings.backoff_max_seconds))
        else:
            delay_seconds = self._settings.refused_retry_seconds
        if isinstance(error, APIError) and error.retry_after_seconds:
            # A tenth more at most, so that a thousand clients told the same do not come back as one.
            pause_seconds = error.retry_after_seconds * _random.uniform(1, 1.1)
            self._resume_at = max(self._resume_at, self._loop.time() + pause_seconds)
        _log.log(
            logging.WARNING if _may_pass(error) else logging.ERROR,
            "batch_not_taken attempt_count=%d next_in_seconds=%.2f error=%s reason=%s",
            batch.failure_count,
            max(delay_seconds, self._resume_at - self._loop.time()),
            type(error).__name__,
            error,
        )
        self.progress.send()
        if not batch.is_hurried:
            await self._hurry.wait(delay_seconds)  # a flush cuts this short, but not the server's Retry-After

    def _settle(self, batch: Batch, answer: Answer) -> None:
        piece = batch.pieces[0]
        self._buffer.settle(batch, rejected_count=len(answer.rejected), duplicate_count=answer.duplicate_count)
        self.progress.send()
        if answer.rejected:
            first = min(answer.rejected)
            _log.error("events_rejected event_count=%d first_reason=%s", len(answer.rejected), answer.rejected[first])
        if self._on_rejected is None:
            return
        for index, reason in answer.rejected.items():
            try:
                self._on_rejected(json.loads(piece[index].body, parse_float=Decimal), reason)
            except Exception:  # noqa: BLE001  # the caller's own code; its fault must not stop other events
                _log.exception("on_rejected_failed")


def _may_pass(error: Exception | None) -> bool:
    """Is it the kind of failure that ends by itself? A refused key or a wrong address is not."""
    if isinstance(error, APIError):
        return isinstance(error, RateLimitError | ServiceUnavailableError) or error.status_code == 408
    return True

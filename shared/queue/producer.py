"""The gateway's end of the queue: pushes envelopes so that a returned `push` means Redis holds them durably."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import redis.asyncio as redis
import structlog

from shared.domain.errors import QueueFull, QueueUnavailable
from shared.queue.connection import REDIS_FAILURES
from shared.queue.keys import QUEUE

log = structlog.get_logger()

_MAX_PUSH_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """Past either bound new events are refused with 503, so that the backlog never runs Redis out of memory."""

    max_envelopes: int = 1_000_000
    max_memory_bytes: int = 1024 * 1024 * 1024
    check_interval_seconds: float = 0.25


class Producer:
    """Pushes of concurrent requests travel together: one command, one fsync, for all that wait at that moment."""

    def __init__(self, client: "redis.Redis", *, bounds: QueueBounds | None = None) -> None:
        self._client = client
        self._bounds = bounds or QueueBounds()
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._is_full = False
        self._is_closing = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Producer":
        self._tasks = [asyncio.create_task(self._push_waiting()), asyncio.create_task(self._watch_backlog())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closing = True
        self._wake.set()
        for task in self._tasks:  # a cancellation may get lost in the Redis client: then the flag ends the task
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        _settle(self._waiting, QueueUnavailable())

    @property
    def is_full(self) -> bool:
        return self._is_full

    async def push(self, envelope: bytes) -> None:
        """Return once Redis has the envelope (and has fsynced it, where its AOF says `always`).

        Raises QueueFull past the backlog's bound and QueueUnavailable when Redis did not confirm. After
        QueueUnavailable the envelope may or may not be queued: the sender retries with the same event ids.
        """
        if self._is_full:
            raise QueueFull
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((envelope, confirmed))
        self._wake.set()
        await confirmed

    async def _push_waiting(self) -> None:
        while not self._is_closing:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group = self._take_group()
                try:
                    await self._client.rpush(QUEUE, *(envelope for envelope, _ in group))
                except REDIS_FAILURES as error:
                    log.warning("push_failed", reason=type(error).__name__, envelope_count=len(group))
                    _settle(group, QueueUnavailable())
                except BaseException:
                    _settle(group, QueueUnavailable())
                    raise
                else:
                    _settle(group, None)

    def _take_group(self) -> list[tuple[bytes, asyncio.Future[None]]]:
        size = count = 0
        for envelope, _ in self._waiting:
            size += len(envelope)
            if count and size > _MAX_PUSH_BYTES:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _watch_backlog(self) -> None:
        while not self._is_closing:
            try:
                length = await self._client.llen(QUEUE)
                memory = await self._client.info("memory")
                was_full = self._is_full
                self._is_full = (
                    length >= self._bounds.max_envelopes or memory["used_memory"] >= self._bounds.max_memory_bytes
                )
                if self._is_full != was_full:
                    log.warning("queue_full" if self._is_full else "queue_has_room", envelope_count=length)
            except REDIS_FAILURES:
                pass  # the pushes themselves report that Redis is away
            await asyncio.sleep(self._bounds.check_interval_seconds)


def _settle(group: Sequence[tuple[bytes, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, confirmed in group:
        if confirmed.done():  # the request was cancelled while it waited
            continue
        if error is None:
            confirmed.set_result(None)
        else:
            confirmed.set_exception(error)

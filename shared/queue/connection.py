"""How a Redis client for the queue is made, and which errors mean that Redis did not do it."""

import asyncio

import redis.asyncio as redis
from redis.exceptions import RedisError

# what an await on the client may raise when Redis is away, slow, full or loading
REDIS_FAILURES: tuple[type[Exception], ...] = (RedisError, OSError, TimeoutError)


def connect(url: str, *, timeout_seconds: float = 5.0) -> "redis.Redis":
    """A client that does not retry by itself: sending again what may have arrived is the sender's to decide."""
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=None,
        health_check_interval=0,
    )


def is_cancelled() -> bool:
    """Whether this task was told to end. Asked by every loop that talks to Redis: the client waits with
    `asyncio.wait_for`, which on Python 3.11 may swallow the CancelledError that said so.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def is_reachable(client: "redis.Redis") -> bool:
    """True when the server answers; a loading or failing one does not."""
    try:
        return bool(await client.ping())
    except REDIS_FAILURES:
        return False

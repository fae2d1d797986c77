"""The producer: a returned push is in Redis, a refused one says so at once, and nobody is left waiting."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis

from launcher.stores import free_port
from shared.domain.errors import QueueFull, QueueUnavailable
from shared.queue.connection import connect, is_reachable
from shared.queue.keys import QUEUE
from shared.queue.producer import Producer, QueueBounds


@asynccontextmanager
async def producer_at(url: str, bounds: QueueBounds | None = None) -> AsyncIterator[Producer]:
    client = connect(url, timeout_seconds=1)
    try:
        async with Producer(client, bounds=bounds) as producer:
            yield producer
    finally:
        await client.aclose()


async def until(condition: bool, producer: Producer) -> None:
    async with asyncio.timeout(5):
        while producer.is_full is not condition:
            await asyncio.sleep(0.005)


async def test_a_returned_push_is_on_the_list_and_order_is_kept(redis_url: str, redis_client: "redis.Redis") -> None:
    async with producer_at(redis_url) as producer:
        for number in range(3):
            await producer.push(b"%d" % number)
            assert await redis_client.lrange(QUEUE, 0, -1) == [b"%d" % i for i in range(number + 1)]


async def test_concurrent_pushes_all_arrive_once_in_few_commands(redis_url: str, redis_client: "redis.Redis") -> None:
    before = (await redis_client.info("commandstats")).get("cmdstat_rpush", {"calls": 0})["calls"]
    async with producer_at(redis_url) as producer:
        await asyncio.gather(*(producer.push(b"%d" % number) for number in range(200)))
    held = await redis_client.lrange(QUEUE, 0, -1)
    assert sorted(held) == sorted(b"%d" % number for number in range(200))
    after = (await redis_client.info("commandstats"))["cmdstat_rpush"]["calls"]
    assert after - before < 20


async def test_large_envelopes_travel_in_groups_of_bounded_size(redis_url: str, redis_client: "redis.Redis") -> None:
    async with producer_at(redis_url) as producer:
        await asyncio.gather(*(producer.push(b"x" * 3_000_000) for _ in range(6)), producer.push(b"y" * 9_000_000))
    assert sorted(len(element) for element in await redis_client.lrange(QUEUE, 0, -1)) == [3_000_000] * 6 + [9_000_000]


async def test_a_server_that_is_away_is_an_immediate_error() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with producer_at(url) as producer:
        started = time.monotonic()
        answers = await asyncio.gather(*(producer.push(b"x") for _ in range(20)), return_exceptions=True)
        assert time.monotonic() - started < 2
    assert [type(answer) for answer in answers] == [QueueUnavailable] * 20
    assert not await is_reachable(connect(url, timeout_seconds=1))


async def test_a_server_that_never_answers_is_an_error_in_the_end() -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    client = connect(url, timeout_seconds=0.2)
    async with server, Producer(client) as producer:
        async with asyncio.timeout(3):
            with pytest.raises(QueueUnavailable):
                await producer.push(b"x")
        await client.aclose()


async def test_a_server_out_of_memory_refuses_and_takes_again_when_it_has_room(
    redis_url: str, redis_client: "redis.Redis"
) -> None:
    usual = (await redis_client.config_get("maxmemory"))["maxmemory"] or "0"
    async with producer_at(redis_url) as producer:
        await redis_client.config_set("maxmemory", 1)
        try:
            with pytest.raises(QueueUnavailable):
                await producer.push(b"refused")
        finally:
            await redis_client.config_set("maxmemory", usual)
        await producer.push(b"taken")
    assert await redis_client.lrange(QUEUE, 0, -1) == [b"taken"]


@pytest.mark.parametrize("bounds", [{"max_envelopes": 2}, {"max_envelopes": 100, "max_memory_bytes": 1024}])
async def test_past_a_bound_nothing_is_pushed_any_more(
    redis_url: str, redis_client: "redis.Redis", bounds: dict[str, int]
) -> None:
    await redis_client.rpush(QUEUE, b"a", b"b")
    async with producer_at(redis_url, QueueBounds(**bounds, check_interval_seconds=0.01)) as producer:
        await until(True, producer)
        with pytest.raises(QueueFull):
            await producer.push(b"c")
    assert await redis_client.llen(QUEUE) == 2


async def test_a_drained_queue_is_open_again(redis_url: str, redis_client: "redis.Redis") -> None:
    await redis_client.rpush(QUEUE, b"a")
    async with producer_at(redis_url, QueueBounds(max_envelopes=1, check_interval_seconds=0.01)) as producer:
        await until(True, producer)
        await redis_client.delete(QUEUE)
        await until(False, producer)
        await producer.push(b"b")
    assert await redis_client.lrange(QUEUE, 0, -1) == [b"b"]


async def test_a_cancelled_request_does_not_disturb_the_others(redis_url: str, redis_client: "redis.Redis") -> None:
    async with producer_at(redis_url) as producer:
        impatient, patient = (asyncio.create_task(producer.push(name)) for name in (b"impatient", b"patient"))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
    assert b"patient" in await redis_client.lrange(QUEUE, 0, -1)
    assert impatient.cancelled()


async def test_stopping_answers_everyone_who_still_waits() -> None:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    client = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", timeout_seconds=30)
    async with server:
        async with Producer(client) as producer:
            first = asyncio.create_task(producer.push(b"under way"))
            await asyncio.sleep(0.01)
            second = asyncio.create_task(producer.push(b"behind it"))
            await asyncio.sleep(0.01)
        async with asyncio.timeout(3):
            answers = await asyncio.gather(first, second, return_exceptions=True)
        await client.aclose()
    assert [type(answer) for answer in answers] == [QueueUnavailable] * 2

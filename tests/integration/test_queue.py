"""The queue's promise: every pushed element waits, or is claimed, or was acknowledged by somebody who held it."""

import asyncio
from collections import Counter

import pytest
import redis.asyncio as redis
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.queue.consumer import Claim, Consumer
from shared.queue.keys import CLAIM_PREFIX, CLAIMS, QUEUE
from shared.queue.producer import Producer
from tests.support.ledger import Bench


async def claim(consumer: Consumer, count: int = 1, *, max_bytes: int = 1_000_000) -> Claim:
    taken = await consumer.claim(max_envelopes=count, max_bytes=max_bytes)
    assert taken is not None
    return taken


async def waiting(client: "redis.Redis") -> list[bytes]:
    found: list[bytes] = await client.lrange(QUEUE, 0, -1)
    return found


async def end_lease(client: "redis.Redis", name: str) -> None:
    """As if the deadline had passed."""
    await client.zadd(CLAIMS, {name: 1}, xx=True)


async def held(client: "redis.Redis") -> dict[str, list[bytes]]:
    """Every claim's list; each has a deadline, and no deadline is without its list."""
    lists = {key.decode(): await client.lrange(key, 0, -1) async for key in client.scan_iter(f"{CLAIM_PREFIX}*")}
    assert {name.decode() for name in await client.zrange(CLAIMS, 0, -1)} == set(lists)
    return lists


async def test_an_empty_queue_gives_nothing_and_leaves_nothing(redis_client: "redis.Redis") -> None:
    assert await Consumer(redis_client).claim(max_envelopes=10, max_bytes=10) is None
    assert await redis_client.keys("*") == []


async def test_a_claim_takes_from_the_head_within_its_bounds_but_at_least_one(redis_client: "redis.Redis") -> None:
    consumer = Consumer(redis_client)
    await redis_client.rpush(QUEUE, b"a", b"b", b"c" * 100, b"d", b"e")
    assert (await claim(consumer, 2)).envelopes == [b"a", b"b"]
    assert (await claim(consumer, 5, max_bytes=1)).envelopes == [b"c" * 100]
    assert (await claim(consumer, 5)).envelopes == [b"d", b"e"]


async def test_an_acknowledged_claim_is_gone_and_a_released_one_is_next_in_line(redis_client: "redis.Redis") -> None:
    consumer = Consumer(redis_client)
    await redis_client.rpush(QUEUE, *b"abcdef")
    first, second = await claim(consumer, 2), await claim(consumer, 2)
    await consumer.acknowledge(first)
    await consumer.release(second)
    assert b"".join(await waiting(redis_client)) == b"99100101102"
    assert await held(redis_client) == {}


async def test_what_a_dead_worker_held_returns_in_order_to_the_head(redis_client: "redis.Redis") -> None:
    dead = Consumer(redis_client, lease_seconds=0.02)
    await redis_client.rpush(QUEUE, b"1", b"2", b"3", b"4", b"5")
    await claim(dead, 2)
    await asyncio.sleep(0.003)
    await claim(dead, 2)
    assert await Consumer(redis_client).reclaim() == 0
    await asyncio.sleep(0.03)
    assert await Consumer(redis_client).reclaim() == 4
    assert await waiting(redis_client) == [b"1", b"2", b"3", b"4", b"5"]
    assert await held(redis_client) == {}


async def test_a_renewed_lease_does_not_end_and_an_abandoned_one_does(redis_client: "redis.Redis") -> None:
    consumer = Consumer(redis_client, lease_seconds=0.3)
    await redis_client.rpush(QUEUE, b"kept", b"abandoned")
    await claim(consumer)
    abandoned = await claim(consumer)
    consumer.abandon(abandoned)
    for _ in range(4):
        await asyncio.sleep(0.1)
        await consumer.renew()
    assert await consumer.reclaim() == 1
    assert await waiting(redis_client) == [b"abandoned"]


async def test_renewing_does_not_bring_back_a_claim_that_was_returned(redis_client: "redis.Redis") -> None:
    consumer = Consumer(redis_client)
    await redis_client.rpush(QUEUE, b"a")
    name = (await claim(consumer)).name
    await end_lease(redis_client, name)
    await consumer.reclaim()
    await consumer.renew()
    assert await held(redis_client) == {}


@pytest.mark.parametrize("late", ["acknowledge", "release"])
async def test_a_zombie_deletes_and_moves_nothing_that_others_hold(redis_client: "redis.Redis", late: str) -> None:
    zombie, other = Consumer(redis_client), Consumer(redis_client)
    await redis_client.rpush(QUEUE, b"a", b"b", b"c")
    lost = await claim(zombie, 2)
    await end_lease(redis_client, lost.name)
    await other.reclaim()
    taken = await claim(other, 1)
    await getattr(zombie, late)(lost)
    assert await held(redis_client) == {taken.name: [b"a"]}
    assert await waiting(redis_client) == [b"b", b"c"]


async def test_of_two_that_reclaim_at_once_one_returns_each_envelope(redis_client: "redis.Redis") -> None:
    consumer = Consumer(redis_client)
    await redis_client.rpush(QUEUE, *(str(i).encode() for i in range(50)))
    for _ in range(10):
        await end_lease(redis_client, (await claim(consumer, 5)).name)
    returned = await asyncio.gather(*(Consumer(redis_client).reclaim() for _ in range(4)))
    assert sum(returned) == 50
    assert Counter(await waiting(redis_client)) == Counter(str(i).encode() for i in range(50))


async def test_a_redis_without_memory_left_still_lets_its_queue_be_emptied(redis_client: "redis.Redis") -> None:
    consumer = Consumer(redis_client, lease_seconds=0.05)
    await redis_client.rpush(QUEUE, b"a", b"b", b"c")
    limit = (await redis_client.config_get("maxmemory"))["maxmemory"]
    await redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.OutOfMemoryError):
            await redis_client.rpush(QUEUE, b"d")
        await consumer.acknowledge(await claim(consumer))
        await consumer.release(await claim(consumer))
        await claim(consumer)
        await consumer.renew()
        await asyncio.sleep(0.06)
        assert await consumer.reclaim() == 1
    finally:
        await redis_client.config_set("maxmemory", limit)
    assert await waiting(redis_client) == [b"b", b"c"]


async def test_the_depth_says_what_waits_and_what_is_in_flight(redis_client: "redis.Redis") -> None:
    consumer = Consumer(redis_client)
    empty = await consumer.depth()
    assert (empty.envelopes, empty.claims, empty.oldest) == (0, 0, None)
    await redis_client.rpush(QUEUE, b"a", b"b", b"c")
    await claim(consumer)
    depth = await consumer.depth()
    assert (depth.envelopes, depth.claims, depth.oldest) == (2, 1, b"b")


steps = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 4)),
    st.tuples(st.just("claim"), st.integers(1, 3)),
    st.tuples(st.sampled_from(["acknowledge", "release", "abandon", "end_lease"]), st.integers(0, 20)),
    st.tuples(st.sampled_from(["reclaim", "renew"]), st.just(0)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), steps), max_size=40))
def test_no_interleaving_loses_or_doubles_an_element(bench: Bench, script: list[tuple[int, tuple[str, int]]]) -> None:
    """Two workers; each may act on any claim it ever had, however late."""

    async def play() -> None:
        client = bench.redis
        await client.flushall()
        workers = [Consumer(client), Consumer(client)]
        claims: list[list[Claim]] = [[], []]
        pushed, acknowledged = 0, Counter[bytes]()
        for who, (action, number) in script:
            worker, mine = workers[who], claims[who]
            if action == "push":
                await client.rpush(QUEUE, *(str(pushed + i).encode() for i in range(number)))
                pushed += number
            elif action == "claim":
                if (taken := await worker.claim(max_envelopes=number, max_bytes=1_000)) is not None:
                    mine.append(taken)
            elif action in ("reclaim", "renew"):
                await getattr(worker, action)()
            elif mine:
                chosen = mine[number % len(mine)]
                before = (await held(client)).get(chosen.name)
                if action == "acknowledge":
                    acknowledged.update(before or [])
                    await worker.acknowledge(chosen)
                elif action == "release":
                    await worker.release(chosen)
                elif action == "abandon":
                    worker.abandon(chosen)
                else:
                    await end_lease(client, chosen.name)
            somewhere = Counter(await waiting(client)) + acknowledged
            for envelopes in (await held(client)).values():
                somewhere.update(envelopes)
            assert somewhere == Counter(str(i).encode() for i in range(pushed))

    bench.run(play())


async def test_many_producers_and_dying_consumers_together_lose_nothing(redis_client: "redis.Redis") -> None:
    done: set[bytes] = set()
    wanted = {f"{who}-{i}".encode() for who in range(8) for i in range(100)}

    async def produce(producer: Producer, who: int) -> None:
        for i in range(100):
            await producer.push(f"{who}-{i}".encode())

    async def consume(who: int) -> None:
        consumer = Consumer(redis_client, lease_seconds=0.1)
        turn = 0
        while done != wanted:
            await consumer.reclaim()
            taken = await consumer.claim(max_envelopes=7, max_bytes=10_000)
            if taken is None:
                await asyncio.sleep(0.002)
                continue
            turn += 1
            if (turn + who) % 5 == 0:  # dies with it
                consumer.abandon(taken)
            elif (turn + who) % 7 == 0:
                await consumer.release(taken)
            else:
                done.update(taken.envelopes)
                await consumer.acknowledge(taken)

    async with asyncio.timeout(20), Producer(redis_client) as one, Producer(redis_client) as two:
        await asyncio.gather(*(produce((one, two)[i % 2], i) for i in range(8)), *(consume(i) for i in range(4)))
    while await redis_client.zcard(CLAIMS):
        await asyncio.sleep(0.02)
        await Consumer(redis_client).reclaim()
    assert set(await waiting(redis_client)) <= wanted
    assert done == wanted

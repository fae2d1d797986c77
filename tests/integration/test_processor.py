"""A processor's three outcomes, through every way of dying: stored, tried again later, or set aside; counted once."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import redis.asyncio as redis
from hypothesis import given, settings
from hypothesis import strategies as st

from services.event_processor.rating import Rater
from services.event_processor.worker import DeadLetterGuard, Processor, TooManyDeadLetters
from shared.domain.billing_config import RateTerms
from shared.domain.rating import Component
from shared.domain.tenancy import TenantScope
from shared.queue.consumer import Consumer
from shared.queue.keys import CLAIMS, QUEUE
from shared.storage.database import Database
from shared.storage.event_store import EventStore
from shared.storage.pool import create_pool
from shared.storage.registry import Registration, RegistryStore
from shared.storage.rollups import RollupFolder
from shared.storage.upkeep import Upkeep
from shared.storage.vocabulary import Vocabulary
from tests.support.ledger import (
    NOON,
    Account,
    account,
    add_tenant,
    envelope,
    event,
    everything,
    require_that_sums_agree,
)
from tests.support.pipeline import drain, fold_all, make_processor

Check = Callable[[], Awaitable[bool]]


async def until(check: Check, *, timeout_seconds: float = 10) -> None:
    async with asyncio.timeout(timeout_seconds):
        while not await check():
            await asyncio.sleep(0.005)


@pytest.fixture
def processor(redis_client: "redis.Redis", pool: asyncpg.Pool, database: Database) -> Processor:
    return make_processor(redis_client, pool, database)


async def stored_event(pool: asyncpg.Pool, tenant: int) -> asyncpg.Record:
    return await pool.fetchrow(
        "SELECT e.*, d.service_provider, d.status, d.currency FROM usage_events e"
        " JOIN dimension_sets d ON d.id = e.dimension_id WHERE e.tenant = $1",
        tenant,
    )


async def metric_sums(pool: asyncpg.Pool, tenant: int) -> dict[str, Decimal]:
    rows = await pool.fetch(
        "SELECT name, sum(value_sum) FROM rollup_deltas JOIN metrics m ON m.id = metric_id"
        " WHERE tenant = $1 GROUP BY name",
        tenant,
    )
    return dict(rows)


def llm(event_id: str, **fields: Any) -> Any:
    values = {
        "service_type": "llm_service",
        "service_provider": "openai",
        "model": "gpt-4",
        "metrics": {"input_tokens": 150, "output_tokens": 75},
    }
    return event(event_id, **(values | fields))


# --- enrichment and rating --------------------------------------------------------------------------------------------


async def test_a_model_tells_its_provider_and_tokens_add_up(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    tenant = await add_tenant(pool)
    await redis_client.rpush(QUEUE, envelope(tenant, llm("a", service_provider="")))
    await drain(redis_client, processor)
    row = await stored_event(pool, tenant)
    assert (row["service_provider"], row["cost"], row["currency"]) == ("openai", Decimal("0.009"), "USD")
    assert (await metric_sums(pool, tenant))["total_tokens"] == 225


async def test_tokens_add_up_to_the_last_digit(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    tenant = await add_tenant(pool)
    tokens = {"input_tokens": 10**18, "output_tokens": Decimal("0.000000000000000001")}
    await redis_client.rpush(QUEUE, envelope(tenant, llm("a", metrics=tokens)))
    await drain(redis_client, processor)
    assert (await metric_sums(pool, tenant))["total_tokens"] == Decimal("1000000000000000000.000000000000000001")


async def test_what_the_sender_stated_is_not_changed(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    tenant = await add_tenant(pool)
    stated = llm("a", service_provider="mine", metrics={"input_tokens": 1, "output_tokens": 2, "total_tokens": 9})
    await redis_client.rpush(QUEUE, envelope(tenant, stated))
    await drain(redis_client, processor)
    assert (await stored_event(pool, tenant))["service_provider"] == "mine"
    assert (await metric_sums(pool, tenant))["total_tokens"] == 9


async def test_a_model_without_a_price_is_unpriced_and_not_free(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    tenant = await add_tenant(pool)
    await redis_client.rpush(QUEUE, envelope(tenant, llm("a", model="nobody-knows-me", service_provider="nobody")))
    await drain(redis_client, processor)
    row, sums = await stored_event(pool, tenant), await metric_sums(pool, tenant)
    assert (row["cost"], row["price_id"], row["currency"]) == (None, None, "")
    assert (sums["$events"], sums["$unpriced"], "$cost" in sums) == (1, 1, False)


async def test_a_failed_event_is_an_error_and_is_not_billed(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    tenant = await add_tenant(pool)
    await redis_client.rpush(QUEUE, envelope(tenant, llm("a", status="failed", error_message="timeout")))
    await drain(redis_client, processor)
    row, sums = await stored_event(pool, tenant), await metric_sums(pool, tenant)
    assert (row["cost"], row["status"], row["error_message"]) == (0, "failed", "timeout")
    assert (sums["$events"], sums["$errors"]) == (1, 1)
    assert not {"$cost", "$unpriced"} & set(sums)


@pytest.mark.parametrize(
    ("started", "duration"),
    [
        (NOON - timedelta(seconds=90), 90_000),
        (NOON, 0),
        (NOON + timedelta(seconds=1), None),  # after the event
        ("yesterday", None),
        (5, None),
    ],
)
async def test_a_session_has_a_duration_when_its_start_is_an_earlier_instant(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor, started: object, duration: int | None
) -> None:
    tenant = await add_tenant(pool)
    text = f'"{started.isoformat()}"' if isinstance(started, datetime) else f'"{started}"' if started != 5 else "5"
    await redis_client.rpush(QUEUE, envelope(tenant, event("a", metadata=f'{{"session_started_at": {text}}}')))
    await drain(redis_client, processor)
    assert (await metric_sums(pool, tenant)).get("session_duration_ms") == duration


async def test_a_rate_registered_between_two_batches_holds_for_the_second(
    redis_client: "redis.Redis", pool: asyncpg.Pool, database: Database, processor: Processor
) -> None:
    number = await add_tenant(pool)
    tenant_id = await pool.fetchval("SELECT tenant_id FROM tenants WHERE number = $1", number)
    await redis_client.rpush(QUEUE, envelope(number, event("a", service_type="custom", metrics={"units": 3})))
    task = asyncio.create_task(processor.run())
    await until(lambda: _is_stored(pool, number, 1))
    await RegistryStore(database).register(
        TenantScope(number, tenant_id),
        Registration("custom", "Custom", None, [], ["units"], [], None, None),
        [RateTerms(None, None, "multiply", (Component(metric="units", amount=Decimal("0.1")),), "EUR")],
    )
    await redis_client.rpush(QUEUE, envelope(number, event("b", service_type="custom", metrics={"units": 3})))
    await until(lambda: _is_stored(pool, number, 2))
    processor.stop()
    await task
    costs = await pool.fetch("SELECT event_id, cost FROM usage_events WHERE tenant = $1 ORDER BY 1", number)
    assert [tuple(row) for row in costs] == [("a", None), ("b", Decimal("0.3"))]


async def _is_stored(pool: asyncpg.Pool, tenant: int, count: int) -> bool:
    return bool(await pool.fetchval("SELECT count(*) = $2 FROM usage_events WHERE tenant = $1", tenant, count))


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=128, max_size=128)


@settings(max_examples=5, deadline=None)
@given(st.lists(texts, min_size=5, max_size=5))
def test_the_longest_words_a_gateway_accepts_can_be_stored(bench: Any, words: list[str]) -> None:
    widest = "".join(
        chr(0x10000 + secrets.randbelow(0xF0000)) for _ in range(128)
    )  # four bytes each: nothing compresses

    async def play() -> None:
        tenant = await add_tenant(bench.pool)
        await bench.redis.flushall()
        for number, (customer, model, provider, kind, job) in enumerate(
            [words, [widest[i:] + widest[:i] for i in range(5)]]
        ):
            said = event(
                f"e{number}",
                service_type="s" * 64,
                customer_id=customer,
                model=model,
                service_provider=provider,
                event_type=kind,
                job_type=job,
                user_id=widest,
                run_id=widest,
                job_id=widest,
            )
            await bench.redis.rpush(QUEUE, envelope(tenant, said))
        await drain(bench.redis, make_processor(bench.redis, bench.pool, bench.database))
        await fold_all(bench.pool)
        assert await account(bench.pool, tenant) == Account(stored=2)

    bench.run(play())


# --- set aside --------------------------------------------------------------------------------------------------------


async def letters(pool: asyncpg.Pool, data: bytes) -> list[tuple[Any, ...]]:
    rows = await pool.fetch("SELECT reason, tenant, event_count FROM dead_letter_events WHERE envelope = $1", data)
    return [tuple(row) for row in rows]


async def test_unreadable_bytes_become_a_dead_letter_and_the_rest_goes_on(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    tenant = await add_tenant(pool)
    junk = secrets.token_bytes(40)
    good = envelope(tenant, event("a"))
    await redis_client.rpush(QUEUE, good, junk, junk, good[:-3], envelope(tenant, event("b")))
    await drain(redis_client, processor)
    assert await account(pool, tenant) == Account(stored=2)
    assert await letters(pool, junk) == await letters(pool, good[:-3]) == [("unreadable", None, 0)]


@pytest.mark.parametrize("tenant", [2_000_000_000, 2**40, 0, -1])
async def test_an_envelope_of_no_tenant_is_set_aside_and_its_neighbours_are_stored(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor, tenant: int
) -> None:
    good = await add_tenant(pool)
    stray = envelope(tenant, event("x"), event("y"))
    await redis_client.rpush(QUEUE, envelope(good, event("a")), stray, envelope(good, event("b")))
    await drain(redis_client, processor)
    assert await account(pool, good) == Account(stored=2)
    stated = tenant if 0 < tenant < 2**31 else None
    assert await letters(pool, stray) == [("unstorable", stated, 2)]


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": '{"text": "\\u0000"}'},
        {"metadata": "{not json"},
        {"service_version": 2**40},
        {"occurred_at": 2**62},
        {"user_id": "nul\x00"},
    ],
)
async def test_what_the_database_refuses_is_set_aside_alone(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor, fields: dict[str, Any]
) -> None:
    tenant = await add_tenant(pool)
    bad = event("bad")
    for name, value in fields.items():
        setattr(bad, name, value)
    requests = [envelope(tenant, event(f"e{i}")) for i in range(9)]
    await redis_client.rpush(QUEUE, *requests[:4], envelope(tenant, event("with bad"), bad), *requests[4:])
    await drain(redis_client, processor)
    assert await account(pool, tenant) == Account(stored=9, dead=2)
    await require_that_sums_agree(pool, tenant, ZoneInfo("UTC"))


async def test_a_fault_of_ours_is_held_and_does_not_drain_the_queue_into_dead_letters(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await add_tenant(pool)
    requests = [envelope(tenant, event(f"e{i}")) for i in range(40)]
    await redis_client.rpush(QUEUE, *requests)

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Rater, "find", broken)
        task = asyncio.create_task(processor.run())
        await until(lambda: _is_failing(processor))
        await asyncio.sleep(0.3)
        assert await account(pool, tenant) == Account()
    await until(lambda: _is_stored(pool, tenant, 40))  # the fault is mended
    processor.stop()
    await task
    assert await account(pool, tenant) == Account(stored=40)


async def _is_failing(processor: Processor) -> bool:
    return processor.failing_since is not None


async def test_a_schema_that_is_not_there_yet_sets_nothing_aside(
    redis_client: "redis.Redis", make_database: Callable[[], str]
) -> None:
    """As while a deployment migrates: even a single envelope waits."""
    url = await asyncio.to_thread(make_database)
    pool, database = await create_pool(url, size=4), Database(url)
    tenant = await add_tenant(pool)
    await pool.execute("ALTER TABLE usage_events RENAME COLUMN section TO segment")
    processor = make_processor(redis_client, pool, database)
    await redis_client.rpush(QUEUE, envelope(tenant, event("a")))
    task = asyncio.create_task(processor.run())
    await until(lambda: _is_failing(processor))
    await asyncio.sleep(0.2)
    assert await account(pool, tenant) == Account()
    await pool.execute("ALTER TABLE usage_events RENAME COLUMN segment TO section")
    await until(lambda: _is_stored(pool, tenant, 1))
    processor.stop()
    await task
    await pool.close()
    await database.close()


def test_the_guard_lets_few_through_and_stops_when_most_would_go() -> None:
    guard = DeadLetterGuard(window=50, minimum=10)
    guard.require(stored=0, set_aside=10)
    guard.record(stored=0, set_aside=10)
    with pytest.raises(TooManyDeadLetters):
        guard.require(stored=0, set_aside=1)
    guard.require(stored=5, set_aside=0)  # good envelopes are always welcome
    guard.require(stored=40, set_aside=15)  # and a bad cluster among them
    guard.record(stored=1000, set_aside=0)
    guard.require(stored=0, set_aside=11)


async def test_an_outage_is_not_held_against_the_envelopes_that_waited_through_it(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One unreadable element in a batch that is tried many times is one dead letter, and not many."""
    tenant = await add_tenant(pool)
    junk = secrets.token_bytes(40)
    await redis_client.rpush(QUEUE, junk, envelope(tenant, event("a")))
    attempts = 0
    store = EventStore.store

    async def away(self: EventStore, *args: Any, **more: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts <= 25:
            raise ConnectionRefusedError
        return await store(self, *args, **more)

    monkeypatch.setattr(EventStore, "store", away)
    monkeypatch.setattr("services.event_processor.worker._RETRY_SECONDS", (0.001,))
    await drain(redis_client, processor)
    assert await account(pool, tenant) == Account(stored=1)
    assert len(await letters(pool, junk)) == 1


# --- dying ------------------------------------------------------------------------------------------------------------


async def test_an_element_that_is_twice_in_a_batch_is_one_delivery(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    tenant = await add_tenant(pool)
    data = envelope(tenant, event("a"), event("b"))
    await redis_client.rpush(QUEUE, data, data)
    await drain(redis_client, processor)
    assert await account(pool, tenant) == Account(stored=2)


async def terminate(pool: asyncpg.Pool) -> None:
    """End every other session of this database."""
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )


async def test_connections_killed_again_and_again_lose_and_double_nothing(
    redis_client: "redis.Redis", make_database: Callable[[], str]
) -> None:
    url = await asyncio.to_thread(make_database)
    pool, killer, database = await create_pool(url, size=4), await create_pool(url, size=1), Database(url)
    tenant = await add_tenant(pool)
    processor = make_processor(redis_client, pool, database, batch_max_envelopes=20)
    workers = [asyncio.create_task(processor.run()) for _ in range(2)]
    for start in range(0, 600, 60):
        await redis_client.rpush(
            QUEUE,
            *(envelope(tenant, event(f"e{i}"), event(f"f{i}", user_id=f"u{i % 3}")) for i in range(start, start + 60)),
        )
        await asyncio.sleep(0.01)
        await terminate(killer)
    await until(lambda: _is_stored(killer, tenant, 1200), timeout_seconds=20)
    processor.stop()
    await asyncio.gather(*workers)
    await fold_all(killer)
    assert await account(killer, tenant) == Account(stored=1200)
    await require_that_sums_agree(killer, tenant, ZoneInfo("UTC"))
    for opened in (pool, killer, database):
        await opened.close()


async def test_a_database_that_is_away_is_waited_for(
    redis_client: "redis.Redis", pool: asyncpg.Pool, make_database: Callable[[], str]
) -> None:
    url = await asyncio.to_thread(make_database)
    name = url.rsplit("/", 1)[1]
    its_pool, its_database = await create_pool(url, size=4), Database(url)
    tenant = await add_tenant(its_pool)
    processor = make_processor(redis_client, its_pool, its_database)
    await pool.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    await pool.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    await redis_client.rpush(QUEUE, envelope(tenant, event("a")), b"unreadable")
    task = asyncio.create_task(processor.run())
    await until(lambda: _is_failing(processor))
    assert await redis_client.zcard(CLAIMS) == 1
    await pool.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")
    await until(lambda: _is_empty(redis_client))
    processor.stop()
    await task
    assert await account(its_pool, tenant) == Account(stored=1)
    assert processor.failing_since is None
    await its_pool.close()
    await its_database.close()


async def _is_empty(client: "redis.Redis") -> bool:
    """Looked at in one step: between two, a claim could return to the queue."""
    return not any(await client.pipeline(transaction=True).llen(QUEUE).zcard(CLAIMS).execute())


async def test_told_to_stop_while_the_database_is_away_it_puts_everything_back_in_order(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await add_tenant(pool)
    requests = [envelope(tenant, event(f"e{i}")) for i in range(5)]
    await redis_client.rpush(QUEUE, *requests)

    async def away(*_: object, **__: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(EventStore, "store", away)
    task = asyncio.create_task(processor.run())
    await until(lambda: _is_failing(processor))
    processor.stop()
    async with asyncio.timeout(2):
        await task
    assert await redis_client.lrange(QUEUE, 0, -1) == requests
    assert not await redis_client.zcard(CLAIMS)


async def test_a_lost_acknowledgement_is_a_redelivery_and_counts_nothing_twice(
    redis_client: "redis.Redis", pool: asyncpg.Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await add_tenant(pool)
    processor = make_processor(redis_client, pool, database, lease_seconds=0.05)
    await redis_client.rpush(QUEUE, envelope(tenant, event("a"), event("a"), event("a", body=1), event("b")))

    async def unreachable(*_: object) -> None:
        raise redis.ConnectionError

    task = asyncio.create_task(processor.run())
    with monkeypatch.context() as patched:
        patched.setattr(Consumer, "acknowledge", unreachable)
        await until(lambda: _is_stored(pool, tenant, 2))
        before = await everything(pool, [tenant])
        await asyncio.sleep(0.1)
        assert await redis_client.zcard(CLAIMS) == 1
    leases = asyncio.create_task(processor.keep_leases())  # renews nothing: the claim was let go
    await until(lambda: _is_empty(redis_client))
    processor.stop()
    await task
    leases.cancel()
    assert await everything(pool, [tenant]) == before
    assert await account(pool, tenant) == Account(stored=2, duplicate=1, conflict=1)


async def test_a_cancelled_worker_does_not_keep_its_lease_alive(
    redis_client: "redis.Redis", pool: asyncpg.Pool, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await add_tenant(pool)
    processor = make_processor(redis_client, pool, database, lease_seconds=0.1)
    leases = asyncio.create_task(processor.keep_leases())
    await redis_client.rpush(QUEUE, envelope(tenant, event("a")))

    async def forever(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(EventStore, "store", forever)
    task = asyncio.create_task(processor.run())
    await until(lambda: _is_claimed(redis_client))
    await asyncio.sleep(0.3)  # several times the lease: renewed
    assert await redis_client.zcard(CLAIMS) == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: _is_waiting(redis_client))
    leases.cancel()
    await asyncio.gather(leases, return_exceptions=True)


async def _is_claimed(client: "redis.Redis") -> bool:
    return bool(await client.zcard(CLAIMS))


async def _is_waiting(client: "redis.Redis") -> bool:
    return bool(await client.llen(QUEUE)) and not await client.zcard(CLAIMS)


async def test_a_worker_outlives_an_error_nobody_thought_of(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = await add_tenant(pool)
    await redis_client.rpush(QUEUE, envelope(tenant, event("a")))
    real = Consumer.claim
    is_first = True

    async def odd(self: Consumer, **bounds: int) -> Any:
        nonlocal is_first
        if is_first:
            is_first = False
            raise RuntimeError("surprise")
        return await real(self, **bounds)

    monkeypatch.setattr(Consumer, "claim", odd)
    await drain(redis_client, processor)
    assert await account(pool, tenant) == Account(stored=1)


async def test_an_event_of_a_day_whose_partition_was_dropped_is_still_stored(
    redis_client: "redis.Redis", pool: asyncpg.Pool, processor: Processor
) -> None:
    """The processor remembers which days it made room for; retention does not tell it."""
    tenant = await add_tenant(pool)
    old = datetime(2021, 5, 5, 12, tzinfo=UTC)
    task = asyncio.create_task(processor.run())
    await redis_client.rpush(QUEUE, envelope(tenant, event("a", at=old)))
    await until(lambda: _is_stored(pool, tenant, 1))
    assert await Upkeep(pool).drop_events(older_than=old + timedelta(days=2)) >= 1
    await redis_client.rpush(QUEUE, envelope(tenant, event("b", at=old)))
    await until(lambda: _is_stored(pool, tenant, 1))
    processor.stop()
    await task
    assert await pool.fetchval("SELECT count(*) FROM dead_letter_events WHERE tenant = $1", tenant) == 0


async def test_batches_that_share_a_vocabulary_do_not_lose_words_when_one_of_them_forgets(
    pool: asyncpg.Pool,
) -> None:
    vocabulary = Vocabulary(pool)
    words = await vocabulary.learn(metrics=["a_metric"])
    vocabulary.forget()
    assert words.metrics["a_metric"] == (await vocabulary.learn(metrics=["a_metric"])).metrics["a_metric"]


async def test_looking_up_known_words_uses_up_no_ids(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    key = (tenant, "api_service", "", "", "call", "", "", "success", "")

    async def learn(*more: str) -> None:
        keys = [key, *((tenant, "api_service", "", "", name, "", "", "success", "") for name in more)]
        await Vocabulary(pool).learn(dimensions=keys, metrics=["a_metric", *more])

    await learn()
    for _ in range(5):
        await learn()
    await learn("next_one")
    ids = await pool.fetch("SELECT id FROM dimension_sets WHERE tenant = $1 ORDER BY id", tenant)
    assert ids[1]["id"] == ids[0]["id"] + 1


async def test_many_at_once_learn_the_same_ids(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    keys = [(tenant, "api_service", "", "", f"type-{i}", "", "", "success", "") for i in range(200)]
    shuffled = [random.Random(seed).sample(keys, len(keys)) for seed in range(6)]
    found = await asyncio.gather(*(Vocabulary(pool).learn(dimensions=order, metrics=["a", "b"]) for order in shuffled))
    assert all({key: words.dimensions[key] for key in keys} == found[0].dimensions for words in found)


async def test_processors_and_folders_together_count_twenty_thousand_events_exactly(
    redis_client: "redis.Redis", pool: asyncpg.Pool, database: Database, database_url: str
) -> None:
    """Two processors of two workers and two folders, all cancelled now and then; every tenth request comes again."""
    rng = random.Random(7)
    zone = "Asia/Kathmandu"
    tenants = [await add_tenant(pool, timezone=zone) for _ in range(2)]
    requests = [
        envelope(
            rng.choice(tenants),
            *(
                event(
                    f"e{number}-{i}",
                    at=NOON - timedelta(minutes=rng.randrange(3 * 24 * 60)),
                    user_id=f"user-{rng.randrange(20)}",
                    event_type=rng.choice(["call", "retry"]),
                    status=rng.choice(["success", "success", "success", "failed"]),
                    metrics={"units": Decimal(rng.randrange(10**20)).scaleb(-18), "request_count": rng.randrange(5)},
                )
                for i in range(50)
            ),
        )
        for number in range(400)
    ]
    again = rng.sample(requests, 40)
    pools = [await create_pool(database_url, size=4) for _ in range(2)]
    is_done = False

    async def live(pool: asyncpg.Pool) -> None:
        """A process that is killed every now and then, and started again."""
        while not is_done:
            processor = make_processor(redis_client, pool, database, lease_seconds=0.5, batch_max_envelopes=8)
            tasks = [asyncio.create_task(processor.run()) for _ in range(2)]
            tasks.append(asyncio.create_task(processor.keep_leases()))
            for _ in range(rng.randrange(20, 120)):
                await asyncio.sleep(0.01)
                if is_done:
                    break
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def fold(pool: asyncpg.Pool) -> None:
        while not is_done:
            with suppress(TimeoutError):
                async with asyncio.timeout(rng.uniform(0.005, 0.5)):
                    await RollupFolder(pool, rows_per_fold=500).fold()
            await asyncio.sleep(0.02)

    living = [asyncio.create_task(work(mine)) for mine in pools for work in (live, fold)]
    for start in range(0, len(requests), 20):
        await redis_client.rpush(QUEUE, *requests[start : start + 20], *again[start // 10 : start // 10 + 2])
        await asyncio.sleep(0.02)
    await until(lambda: _is_empty(redis_client), timeout_seconds=40)
    is_done = True
    await asyncio.gather(*living)
    await fold_all(pool)
    assert sum([(await account(pool, tenant)).stored for tenant in tenants]) == 20_000
    assert sum([(await account(pool, tenant)).total for tenant in tenants]) == 20_000
    for tenant in tenants:
        await require_that_sums_agree(pool, tenant, ZoneInfo(zone))
    for opened in pools:
        await opened.close()

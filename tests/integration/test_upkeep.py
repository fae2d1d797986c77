"""Retention: old events go in whole days and their sums stay; identities are forgotten after their window."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from services.aggregation_service.jobs import KeepBounds
from services.aggregation_service.settings import AggregationServiceSettings
from shared.domain.periods import Grain
from shared.storage.database import TRANSIENT_FAILURES
from shared.storage.upkeep import Upkeep
from tests.conftest import SECRET
from tests.support.ledger import NOON, Account, account, add_tenant, deliver, envelope, event
from tests.support.pipeline import fold_all

OLD = datetime(2022, 3, 3, 12, tzinfo=UTC)


async def days_stored(pool: asyncpg.Pool, tenant: int) -> list[datetime]:
    rows = await pool.fetch("SELECT occurred_at FROM usage_events WHERE tenant = $1 ORDER BY 1", tenant)
    return [row["occurred_at"] for row in rows]


async def is_plain(pool: asyncpg.Pool) -> bool:
    """Whether partitions are ours to make; TimescaleDB makes its own."""
    return not await pool.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")


async def partitions(pool: asyncpg.Pool) -> int:
    found: int = await pool.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'usage_events'::regclass")
    return found


async def test_whole_days_before_the_bound_are_dropped_and_their_sums_stay(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    moments = [OLD, OLD + timedelta(days=1), OLD + timedelta(days=2), NOON]
    await deliver(pool, [envelope(tenant, *(event(f"e{i}", at=at) for i, at in enumerate(moments)))])
    await fold_all(pool)
    await Upkeep(pool).drop_events(older_than=OLD + timedelta(days=1))  # noon: its day is not over
    assert await days_stored(pool, tenant) == moments[1:]
    await Upkeep(pool).drop_events(older_than=OLD + timedelta(days=30))
    assert await days_stored(pool, tenant) == [NOON]
    counted = await pool.fetchval(
        "SELECT sum(value_sum) FROM rollups JOIN metrics m ON m.id = metric_id"
        " WHERE tenant = $1 AND grain = $2 AND name = '$events'",
        tenant,
        int(Grain.MONTH),
    )
    assert counted == 4


async def test_an_event_sent_again_after_its_day_was_dropped_is_still_a_duplicate(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("a", at=OLD))])
    await Upkeep(pool).drop_events(older_than=OLD + timedelta(days=30))
    await deliver(pool, [envelope(tenant, event("a", at=OLD))])
    assert await account(pool, tenant) == Account(stored=0, duplicate=1)


async def test_a_drop_does_not_make_everybody_wait_behind_a_long_query(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("a", at=OLD))])
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT count(*) FROM usage_events")
        async with asyncio.timeout(10):
            with pytest.raises(TRANSIENT_FAILURES):
                await Upkeep(pool).drop_events(older_than=OLD + timedelta(days=30))
    assert await Upkeep(pool).drop_events(older_than=OLD + timedelta(days=30)) >= 1
    assert await days_stored(pool, tenant) == []


async def test_identities_and_outcomes_are_forgotten_after_the_window(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("old")), envelope(tenant, event("old"))])
    await deliver(pool, [envelope(tenant, event("new"))])
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    await pool.execute(
        "UPDATE event_keys SET received_at = $2 WHERE (tenant, event_key) IN"
        " (SELECT tenant, event_key FROM usage_events WHERE tenant = $1 AND event_id = 'old')",
        tenant,
        long_ago,
    )
    await pool.execute("UPDATE ingest_outcomes SET recorded_at = $2 WHERE tenant = $1", tenant, long_ago)
    deleted = await asyncio.gather(
        *(Upkeep(pool).delete_keys(received_before=long_ago + timedelta(days=1)) for _ in range(2))
    )
    assert sum(deleted) == 1
    assert await pool.fetchval("SELECT count(*) FROM event_keys WHERE tenant = $1", tenant) == 1
    assert await account(pool, tenant) == Account(stored=2)


async def test_fine_rollups_are_deleted_past_their_retention_and_months_stay(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("old", at=OLD), event("new", at=NOON))])
    await fold_all(pool)
    assert await Upkeep(pool).delete_rollups(older_than=OLD + timedelta(days=40)) >= 4
    for table in ("rollups", "user_rollups"):
        rows = await pool.fetch(f"SELECT DISTINCT grain, bucket_at FROM {table} WHERE tenant = $1", tenant)
        assert {row["grain"] for row in rows if row["bucket_at"] < OLD + timedelta(days=40)} == {Grain.MONTH}
        assert len({row["grain"] for row in rows}) == (5 if table == "rollups" else 3)


async def test_partitions_are_made_ahead_once_however_many_make_them(pool: asyncpg.Pool) -> None:
    now = datetime(2031, 5, 5, tzinfo=UTC)
    before = await partitions(pool)
    for _ in range(2):
        await asyncio.gather(*(Upkeep(pool).make_partitions(now=now, days_ahead=5) for _ in range(4)))
    assert await partitions(pool) - before == (7 if await is_plain(pool) else 0)


async def test_a_day_can_be_made_dropped_and_made_again_while_others_write(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    is_done = False

    async def keep_dropping() -> None:
        while not is_done:
            await Upkeep(pool).drop_events(older_than=OLD + timedelta(days=30))
            await asyncio.sleep(0.02)

    dropping = asyncio.create_task(keep_dropping())
    stored = 0
    for number in range(20):
        try:
            await deliver(pool, [envelope(tenant, event(f"old-{number}", at=OLD), event(f"new-{number}", at=NOON))])
            stored += 1
        except (*TRANSIENT_FAILURES, asyncpg.PostgresError):
            continue  # nothing of it is there: a processor tries again
    is_done = True
    await dropping
    keys = await pool.fetchval("SELECT count(*) FROM event_keys WHERE tenant = $1", tenant)
    recent = [at for at in await days_stored(pool, tenant) if at == NOON]
    assert (keys, len(recent)) == (2 * stored, stored)


async def test_the_job_keeps_all_bounds_and_may_run_twice_at_once(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("old", at=OLD), event("new", at=NOON))])
    await fold_all(pool)
    settings = AggregationServiceSettings(database_url="postgresql://unused", api_secret_key=SECRET)
    await asyncio.gather(*(KeepBounds(Upkeep(pool), settings).run() for _ in range(2)))
    assert await days_stored(pool, tenant) == [NOON]

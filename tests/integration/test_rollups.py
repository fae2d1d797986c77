"""Sum over events = rollups + deltas: every metric, cost and user, at every grain, in every zone, folded whenever."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.aggregation_service.jobs import FoldDeltas
from shared.domain.rating import Component, Rate, RateBook
from shared.storage.database import TRANSIENT_FAILURES
from shared.storage.registry import Registry
from shared.storage.rollups import RollupFolder
from tests.support.ledger import (
    NOON,
    Bench,
    add_tenant,
    deliver,
    envelope,
    event,
    everything,
    require_that_sums_agree,
)
from tests.support.pipeline import fold_all

ZONES = ["UTC", "Asia/Kathmandu", "America/Havana", "Europe/Berlin", "Pacific/Chatham"]

# around every kind of edge: local midnights, the ends of a month and a week, nights that are an hour shorter or longer
EDGES = [
    datetime(2025, 11, 1, tzinfo=UTC),
    datetime(2025, 10, 26, 0, tzinfo=UTC),  # Berlin
    datetime(2025, 11, 2, 4, tzinfo=UTC),  # Havana, two midnights
    datetime(2026, 3, 8, 5, tzinfo=UTC),  # Havana, none
    datetime(2026, 2, 28, 18, 15, tzinfo=UTC),  # Kathmandu, the first of March
]
quantities = st.one_of(
    st.integers(0, 10**18),
    st.integers(0, 10**36).map(lambda units: Decimal(units).scaleb(-18)),
    st.sampled_from([Decimal("0.000000000000000001"), Decimal("999999999999999999.999999999999999999"), 0]),
)
moments = st.builds(
    lambda edge, seconds: edge + timedelta(seconds=seconds),
    st.sampled_from(EDGES),
    st.sampled_from([-900, -1, 0, 1, 899, 900, 3600, 86_399]),
)
events = st.fixed_dictionaries(
    {
        "at": moments,
        "user_id": st.sampled_from(["ann", "bob"]),
        "customer_id": st.sampled_from(["", "acme"]),
        "status": st.sampled_from(["success", "success", "failed"]),
        "service_type": st.sampled_from(["priced", "unpriced"]),
        "metrics": st.dictionaries(st.sampled_from(["units", "bytes"]), quantities),
    }
)
# each step: the events of a request, and how many folders run while it is stored
scripts = st.lists(st.tuples(st.lists(events, min_size=1, max_size=6), st.integers(0, 2)), min_size=1, max_size=5)


def priced_at(amount: str, tenant: int) -> Registry:
    """One rate for the service type `priced`, on `units`."""
    rate = Rate(
        rate_id=1,
        version=1,
        service_type="priced",
        method="multiply",
        components=(Component(metric="units", amount=Decimal(amount)),),
        currency="USD",
        effective_from=datetime(1970, 1, 1, tzinfo=UTC),
    )
    return Registry(version=1, rate_books={tenant: RateBook([rate])})


@settings(max_examples=40, deadline=None)
@given(scripts, st.sampled_from(ZONES), st.sampled_from([2, 1_000]))
def test_sums_agree_whenever_and_by_however_many_folded(
    bench: Bench, script: list[tuple[list[dict[str, object]], int]], zone: str, rows_per_fold: int
) -> None:
    async def play() -> None:
        pool = bench.pool
        tenant = await add_tenant(pool, timezone=zone)
        registry = priced_at("0.000000000000000001", tenant)
        number = 0
        for request, folders in script:
            said = []
            for fields in request:
                number += 1
                said.append(event(f"e{number}", **fields))  # type: ignore[arg-type]
            folding = [RollupFolder(pool, rows_per_fold=rows_per_fold).fold() for _ in range(folders)]
            await asyncio.gather(deliver(pool, [envelope(tenant, *said)], registry=registry), *folding)
            await require_that_sums_agree(pool, tenant, ZoneInfo(zone))
        await asyncio.gather(*(FoldDeltas(RollupFolder(pool, rows_per_fold=rows_per_fold)).run() for _ in range(2)))
        await fold_all(pool)
        assert not await pool.fetchval("SELECT count(*) FROM rollup_deltas WHERE tenant = $1", tenant)
        assert not await pool.fetchval("SELECT count(*) FROM user_rollup_deltas WHERE tenant = $1", tenant)
        await require_that_sums_agree(pool, tenant, ZoneInfo(zone))

    bench.run(play())


async def test_money_is_exact_to_the_last_digit(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    said = [
        event(
            f"e{i}", at=NOON, service_type="priced", metrics={"units": Decimal("1000000000000000.000000000000000001")}
        )
        for i in range(999)
    ]
    await deliver(pool, [envelope(tenant, *said)], registry=priced_at("0.000000000000000001", tenant))
    await fold_all(pool)
    cost, total = Decimal("0.001000000000000000000000000000000001"), Decimal("0.999000000000000000000000000000000999")
    assert await pool.fetchval("SELECT sum(cost) FROM usage_events WHERE tenant = $1", tenant) == total
    months = await pool.fetch(
        "SELECT m.name, r.* FROM rollups r JOIN metrics m ON m.id = r.metric_id WHERE tenant = $1 AND grain = 5", tenant
    )
    sums = {row["name"]: (row["value_sum"], row["value_min"], row["value_max"]) for row in months}
    assert sums["$cost"] == (total, cost, cost)
    assert sums["units"][0] == Decimal("999000000000000000.000000000000000999")
    assert sums["$events"] == (999, None, None)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(quantities, min_size=1, max_size=4), min_size=1, max_size=4))
@example([[5], [3], [9], [4]])
def test_the_least_and_the_most_survive_any_number_of_folds(bench: Bench, batches: list[list[int | Decimal]]) -> None:
    async def play() -> None:
        pool = bench.pool
        tenant = await add_tenant(pool)
        for number, values in enumerate(batches):
            said = [event(f"{number}-{i}", at=NOON, metrics={"units": value}) for i, value in enumerate(values)]
            await deliver(pool, [envelope(tenant, *said)])
            await fold_all(pool)
        row = await pool.fetchrow(
            "SELECT r.* FROM rollups r JOIN metrics m ON m.id = metric_id"
            " WHERE tenant = $1 AND grain = 3 AND name = 'units'",
            tenant,
        )
        every = [Decimal(value) for values in batches for value in values]
        assert (row["value_count"], row["value_min"], row["value_max"]) == (len(every), min(every), max(every))

    bench.run(play())


async def test_a_fold_takes_no_more_than_it_may_and_says_that_there_is_more(pool: asyncpg.Pool) -> None:
    await fold_all(pool)
    tenant = await add_tenant(pool)
    for i in range(10):  # one bucket: every batch adds two rows to it, and one of its user
        await deliver(pool, [envelope(tenant, event(f"e{i}", at=NOON))])
    folder = RollupFolder(pool, rows_per_fold=15)
    folded = [await folder.fold() for _ in range(3)]
    left = await pool.fetchval("SELECT count(*) FROM rollup_deltas WHERE tenant = $1", tenant)
    assert [(fold.rows, fold.has_more) for fold in folded] == [(25, True), (15, True), (0, False)]
    assert left == 0
    await require_that_sums_agree(pool, tenant, ZoneInfo("UTC"))


async def test_a_folder_killed_in_the_middle_changes_nothing_and_keeps_nobody_out(
    pool: asyncpg.Pool,
) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("a"), event("b"))])
    before = await everything(pool, [tenant])
    async with pool.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE rollups IN SHARE MODE")  # the fold deletes its deltas, then waits here
        folding = asyncio.create_task(RollupFolder(pool).fold())
        while not (
            pid := await pool.fetchval("SELECT pid FROM pg_locks WHERE relation = 'rollups'::regclass AND NOT granted")
        ):
            await asyncio.sleep(0.005)
        assert not (await RollupFolder(pool).fold()).was_elected
        await pool.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(TRANSIENT_FAILURES):
            await folding
    assert await everything(pool, [tenant]) == before
    await fold_all(pool)
    await require_that_sums_agree(pool, tenant, ZoneInfo("UTC"))


async def test_a_steady_stream_of_deltas_does_not_keep_the_folder_busy_for_ever(pool: asyncpg.Pool) -> None:
    """One run folds what waits at its start, instead of rewriting the same rows as fast as it can."""
    tenant = await add_tenant(pool)
    folds = 0

    class Counted(RollupFolder):
        async def fold(self):  # type: ignore[no-untyped-def]
            nonlocal folds
            folds += 1
            folded = await super().fold()
            await deliver(pool, [envelope(tenant, event(f"e{folds}"))])
            return folded

    async with asyncio.timeout(5):
        await FoldDeltas(Counted(pool)).run()
    assert folds == 1


async def test_the_lag_is_the_age_of_the_oldest_delta(pool: asyncpg.Pool) -> None:
    await fold_all(pool)
    folder = RollupFolder(pool)
    assert await folder.lag_seconds() == 0
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("a"))])
    await pool.execute("UPDATE rollup_deltas SET created_at = now() - interval '1 minute' WHERE tenant = $1", tenant)
    assert 60 <= await folder.lag_seconds() < 90

"""Counted once: accepted = stored + duplicate + conflict, and delivering again, in any way, changes nothing."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.envelope import Event
from tests.support.ledger import (
    NOON,
    Account,
    Bench,
    account,
    add_tenant,
    deliver,
    envelope,
    event,
    everything,
    require_that_sums_agree,
)

UTC_ZONE = ZoneInfo("UTC")


async def test_the_same_event_twice_in_one_request_is_one_event_and_a_duplicate(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("a"), event("a"), event("b"))])
    assert await account(pool, tenant) == Account(stored=2, duplicate=1)


@pytest.mark.parametrize("later", [NOON, None])
@pytest.mark.parametrize("earlier", [NOON, None])
async def test_an_event_sent_again_is_a_duplicate_with_or_without_its_time(
    pool: asyncpg.Pool, earlier: datetime | None, later: datetime | None
) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("a", at=earlier))])
    again = event("a", at=later)
    if later is None:
        again.occurred_at += 7_000_000  # received later
    await deliver(pool, [envelope(tenant, again)])
    assert await account(pool, tenant) == Account(stored=1, duplicate=1)


async def test_the_same_id_with_another_body_is_a_conflict_listed_once(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    request = envelope(tenant, event("a", body=2), event("a", body=2), event("a", body=3, metadata='{"note": "3"}'))
    await deliver(pool, [envelope(tenant, event("a", body=1))])
    await deliver(pool, [request])
    await deliver(pool, [request])
    assert await account(pool, tenant) == Account(stored=1, conflict=3)
    listed = await pool.fetch("SELECT * FROM event_conflicts WHERE tenant = $1 ORDER BY fingerprint", tenant)
    assert [(row["event_id"], row["fingerprint"]) for row in listed] == [("a", 2), ("a", 3)]
    assert json.loads(listed[1]["body"])["metadata"] == {"note": "3"}
    assert await pool.fetchval("SELECT metrics FROM usage_events WHERE tenant = $1", tenant) == '{"request_count": 2}'


async def test_the_same_id_at_another_stated_time_is_a_conflict(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    await deliver(pool, [envelope(tenant, event("a", at=NOON))])
    await deliver(pool, [envelope(tenant, event("a", at=NOON + timedelta(microseconds=1)))])
    assert await account(pool, tenant) == Account(stored=1, conflict=1)


async def test_an_id_belongs_to_its_tenant_and_to_its_source(pool: asyncpg.Pool) -> None:
    tenant, other = await add_tenant(pool), await add_tenant(pool)
    await deliver(
        pool,
        [envelope(tenant, event("a"), event("a", source="s"), event("a", source="t")), envelope(other, event("a"))],
    )
    assert await account(pool, tenant) == Account(stored=3)
    assert await account(pool, other) == Account(stored=1)


async def test_an_event_without_an_id_of_its_own_form_keeps_the_text_it_was_sent_with(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    canonical = "0190a6f0-1d2c-7b3a-8c4d-5e6f708192a3"
    await deliver(pool, [envelope(tenant, event(canonical), event(canonical.upper()), event("a", source="s"))])
    rows = await pool.fetch("SELECT event_key, event_id, source FROM usage_events WHERE tenant = $1", tenant)
    stated = {(row["event_id"] or str(row["event_key"]), row["source"] or "") for row in rows}
    assert stated == {(canonical, ""), (canonical.upper(), ""), ("a", "s")}


async def test_times_are_kept_to_the_microsecond(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    moments = [NOON + timedelta(microseconds=offset) for offset in (0, 1, 999_999, 86_399_999_999)]
    await deliver(pool, [envelope(tenant, *(event(f"e{i}", at=at) for i, at in enumerate(moments)))])
    for table in ("usage_events", "event_keys"):
        rows = await pool.fetch(f"SELECT occurred_at FROM {table} WHERE tenant = $1 ORDER BY 1", tenant)
        assert [row["occurred_at"] for row in rows] == moments


async def test_a_batch_that_fails_leaves_nothing_behind(pool: asyncpg.Pool) -> None:
    tenant = await add_tenant(pool)
    with pytest.raises(asyncpg.DataError):
        await deliver(pool, [envelope(tenant, event("a"), event("b", metadata='{"text": "\\u0000"}'))])
    assert not any((await everything(pool, [tenant])).values())


# what a request says: (which tenant, its events as (which id, which body, which time or none))
requests = st.tuples(
    st.integers(0, 1),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from([None, 0, 1])), min_size=1, max_size=5),
)


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[tuple[int, list[tuple[int, int, int | None]]]], list[list[int]]]:
    """Requests, and batches of them by index: each at least once, any of them again, in any order."""
    sent = draw(st.lists(requests, min_size=1, max_size=6))
    again = draw(st.lists(st.integers(0, len(sent) - 1), max_size=6))
    order = draw(st.permutations([*range(len(sent)), *again]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    batches = [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    # an element is never twice in one batch: the processor takes care of that
    return sent, [list(dict.fromkeys(batch)) for batch in batches if batch]


def spoken(identifier: int, body: int, time: int | None) -> Event:
    return event(f"event-{identifier}", body=body, at=None if time is None else NOON + timedelta(minutes=time))


def expected(sent: Sequence[tuple[int, Sequence[tuple[int, int, int | None]]]], order: Sequence[int]) -> list[Account]:
    """What the two tenants' accounts are when the requests come in this order for the first time."""
    known: dict[tuple[int, int], tuple[int, int | None]] = {}
    counts: Counter[tuple[int, str]] = Counter()
    for tenant, events in (sent[i] for i in dict.fromkeys(order)):
        for identifier, body, time in events:
            first_body, first_time = known.get((tenant, identifier), (None, None))
            if first_body is None:
                known[tenant, identifier] = body, time
                outcome = "stored"
            elif body == first_body and (None in (time, first_time) or time == first_time):
                outcome = "duplicate"
            else:
                outcome = "conflict"
            counts[tenant, outcome] += 1
    return [Account(*(counts[tenant, outcome] for outcome in ("stored", "duplicate", "conflict"))) for tenant in (0, 1)]


@settings(max_examples=40, deadline=None)
@given(deliveries())
def test_every_accepted_event_is_accounted_for_once_however_it_is_delivered(
    bench: Bench, plan: tuple[list[tuple[int, list[tuple[int, int, int | None]]]], list[list[int]]]
) -> None:
    sent, batches = plan

    async def play() -> None:
        pool = bench.pool
        tenants = [await add_tenant(pool), await add_tenant(pool)]
        raw = [envelope(tenants[who], *(spoken(*said) for said in events)) for who, events in sent]
        for batch in batches:
            await deliver(pool, [raw[i] for i in batch])
        order = [i for batch in batches for i in batch]
        assert [await account(pool, tenant) for tenant in tenants] == expected(sent, order)
        before = await everything(pool, tenants)
        await deliver(pool, raw)
        for batch in reversed(batches):
            await deliver(pool, [raw[i] for i in reversed(batch)])
        assert await everything(pool, tenants) == before
        for tenant in tenants:
            await require_that_sums_agree(pool, tenant, UTC_ZONE)

    bench.run(play())


@settings(max_examples=25, deadline=None)
@given(deliveries())
def test_processors_at_once_account_for_every_event_once(
    bench: Bench, plan: tuple[list[tuple[int, list[tuple[int, int, int | None]]]], list[list[int]]]
) -> None:
    """Which of two bodies comes first is then a matter of luck; that each is counted, once, is not."""
    sent, batches = plan

    async def play() -> None:
        pool = bench.pool
        tenants = [await add_tenant(pool), await add_tenant(pool)]
        raw = [envelope(tenants[who], *(spoken(*said) for said in events)) for who, events in sent]
        await asyncio.gather(*(deliver(pool, [raw[i] for i in batch]) for batch in [*batches, *batches[::-1]]))
        for number, tenant in enumerate(tenants):
            events = [said for who, request in sent if who == number for said in request]
            found = await account(pool, tenant)
            assert (found.total, found.stored) == (len(events), len({identifier for identifier, _, _ in events}))
            keys = await pool.fetchval("SELECT count(*) FROM event_keys WHERE tenant = $1", tenant)
            assert keys == found.stored
            await require_that_sums_agree(pool, tenant, UTC_ZONE)
        before = await everything(pool, tenants)
        await asyncio.gather(*(deliver(pool, [data]) for data in raw))
        assert await everything(pool, tenants) == before

    bench.run(play())

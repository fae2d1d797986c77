"""Envelopes to deliver, and what the tables say of a tenant afterwards: rows, the account, sums worked out again."""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import asyncpg
import redis.asyncio as redis

from services.event_processor.batches import Batch
from services.event_processor.rating import Rater
from shared.contracts import exact_json
from shared.contracts.envelope import VERSION, Envelope, Event, decode, encode
from shared.domain.money import EXACT, exact_sum
from shared.domain.periods import Grain
from shared.storage.database import Database
from shared.storage.event_store import EventStore, Outcome
from shared.storage.registry import Registry
from shared.storage.rollups import ROLLUP_GRAINS, USER_GRAINS
from shared.storage.vocabulary import Vocabulary
from tests.support.pipeline import CATALOGUE

Result = TypeVar("Result")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = (datetime.now(UTC) - timedelta(days=3)).replace(hour=12, minute=0, second=0, microsecond=0)


@dataclass(frozen=True)
class Bench:
    """Stores for tests that are not coroutines themselves, as property tests: one loop, its pool and clients."""

    runner: asyncio.Runner
    pool: asyncpg.Pool
    database: Database
    redis: "redis.Redis"

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)


@dataclass(frozen=True)
class Account:
    """What became of a tenant's events."""

    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    dead: int = 0

    @property
    def total(self) -> int:
        return self.stored + self.duplicate + self.conflict + self.dead


def microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def event(event_id: str, *, at: datetime | None = None, body: int = 0, **fields: Any) -> Event:
    """An event as the gateway makes it. Without `at` its sender gave no time; `body` stands for all else it said."""
    values: dict[str, Any] = {
        "event_id": event_id,
        "source": "",
        "occurred_at": microseconds(at or NOON),
        "is_timestamped": at is not None,
        "fingerprint": body,
        "service_type": "api_service",
        "service_version": 1,
        "service_provider": "",
        "event_type": "call",
        "user_id": "user-1",
        "customer_id": "",
        "status": "success",
        "model": "",
        "metrics": {"request_count": body + 1},
        "metadata": "",
        "tags": [],
    }
    return Event(**(values | fields))


def envelope(tenant: int, *events: Event, receipt: int | None = None) -> bytes:
    """One accepted request, as the queue holds it."""
    return encode(
        Envelope(
            version=VERSION,
            tenant=tenant,
            tenant_id=f"tenant-{tenant}",
            receipt=secrets.randbits(63) if receipt is None else receipt,
            received_at=microseconds(NOON),
            request_id="request",
            events=list(events),
        )
    )


async def add_tenant(pool: asyncpg.Pool, *, timezone: str = "UTC") -> int:
    number: int = await pool.fetchval(
        "INSERT INTO tenants (tenant_id, name, timezone) VALUES ($1, $1, $2) RETURNING number",
        f"tenant-{secrets.token_hex(6)}",
        timezone,
    )
    return number


async def deliver(pool: asyncpg.Pool, raw: Sequence[bytes], *, registry: Registry | None = None) -> Outcome:
    """Store these envelopes as one batch of a processor that has just been started."""
    registry = registry or Registry(version=0)
    store, vocabulary = EventStore(pool), Vocabulary(pool)
    batch = Batch(
        [decode(data) for data in raw],
        registry=registry,
        rater=Rater(registry, CATALOGUE),
        provider_of=lambda model: CATALOGUE.provider_of(model) or "",
    )
    words = await vocabulary.learn(dimensions=batch.dimensions, metrics=batch.metric_names, prices=batch.prices)
    await store.ensure_partitions(batch.days)
    return await store.store(
        batch.identities,
        batch.rows(words),
        describe=batch.describe,
        sum_up=lambda indexes: batch.sum_up(indexes, vocabulary=words),
    )


_TENANT_TABLES = (
    "event_keys",
    "usage_events",
    "ingest_outcomes",
    "event_conflicts",
    "dead_letter_events",
    "rollup_deltas",
    "user_rollup_deltas",
    "rollups",
    "user_rollups",
)


async def everything(pool: asyncpg.Pool, tenants: Iterable[int]) -> dict[str, Counter[str]]:
    """Every row of these tenants, by table."""
    numbers = list(tenants)
    return {
        table: Counter(
            row["row"]
            for row in await pool.fetch(f"SELECT t::text AS row FROM {table} t WHERE tenant = ANY ($1)", numbers)
        )
        for table in _TENANT_TABLES
    }


async def account(pool: asyncpg.Pool, tenant: int) -> Account:
    row = await pool.fetchrow(
        """
        SELECT (SELECT count(*) FROM usage_events WHERE tenant = $1) AS stored,
               coalesce(sum(duplicate_count), 0) AS duplicate,
               coalesce(sum(conflict_count), 0) AS conflict,
               (SELECT coalesce(sum(event_count), 0) FROM dead_letter_events WHERE tenant = $1) AS dead
        FROM ingest_outcomes WHERE tenant = $1
        """,
        tenant,
    )
    return Account(**row)


@dataclass
class Measure:
    """What one bucket says of one metric."""

    count: int = 0
    total: Decimal = Decimal(0)
    least: Decimal | None = None
    most: Decimal | None = None

    def add(self, count: int, total: Decimal, least: Decimal | None, most: Decimal | None) -> None:
        self.count += count
        self.total = EXACT.add(self.total, total)
        self.least = min((value for value in (self.least, least) if value is not None), default=None)
        self.most = max((value for value in (self.most, most) if value is not None), default=None)


def local_bucket(at: datetime, grain: Grain, zone: ZoneInfo) -> tuple[int, ...]:
    """What is equal for two instants of one bucket, read off the wall clock."""
    if grain <= Grain.HOUR:
        moment = at.astimezone(UTC)
        return (moment.toordinal(), moment.hour, moment.minute // 15 if grain is Grain.QUARTER_HOUR else 0)
    day = at.astimezone(zone).date()
    if grain is Grain.DAY:
        return (day.toordinal(),)
    return tuple(day.isocalendar()[:2]) if grain is Grain.WEEK else (day.year, day.month)


async def require_that_sums_agree(pool: asyncpg.Pool, tenant: int, zone: ZoneInfo) -> None:
    """The law of rollups: sum over events = rollups + deltas, for every metric, cost and user, at every grain."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        events = await connection.fetch(
            "SELECT e.*, d.status, d.currency FROM usage_events e JOIN dimension_sets d ON d.id = e.dimension_id"
            " WHERE e.tenant = $1",
            tenant,
        )
        names = {row["id"]: row["name"] for row in await connection.fetch("SELECT id, name FROM metrics")}
        tables = {
            table: await connection.fetch(f"SELECT * FROM {table} WHERE tenant = $1", tenant)
            for table in ("rollup_deltas", "rollups", "user_rollup_deltas", "user_rollups")
        }
    for grain in ROLLUP_GRAINS:
        wanted: dict[Any, Measure] = defaultdict(Measure)
        for row in events:
            place = (row["dimension_id"], local_bucket(row["occurred_at"], grain, zone))
            for name, value in exact_json.loads(row["metrics"]).items():
                amount = Decimal(value)
                wanted[*place, name].add(1, amount, amount, amount)
            wanted[*place, "$events"].add(1, Decimal(1), None, None)
            if row["status"] == "failed":
                wanted[*place, "$errors"].add(1, Decimal(1), None, None)
            if row["cost"] is None:
                wanted[*place, "$unpriced"].add(1, Decimal(1), None, None)
            elif row["currency"]:
                wanted[*place, "$cost"].add(1, row["cost"], row["cost"], row["cost"])
        found: dict[Any, Measure] = defaultdict(Measure)
        for row in [*tables["rollup_deltas"], *(r for r in tables["rollups"] if r["grain"] == grain)]:
            place = (row["dimension_id"], local_bucket(row["bucket_at"], grain, zone))
            found[*place, names[row["metric_id"]]].add(
                row["value_count"], row["value_sum"], row["value_min"], row["value_max"]
            )
        assert dict(found) == dict(wanted), grain
    for grain in USER_GRAINS:
        by_user: dict[Any, list[tuple[int, int, int, Decimal]]] = defaultdict(list)
        for row in events:
            place = (row["dimension_id"], local_bucket(row["occurred_at"], grain, zone), row["user_id"])
            is_failed, is_unpriced = row["status"] == "failed", row["cost"] is None
            by_user[place].append((1, is_failed, is_unpriced, row["cost"] or Decimal(0)))
        said: dict[Any, list[tuple[int, int, int, Decimal]]] = defaultdict(list)
        for row in [*tables["user_rollup_deltas"], *(r for r in tables["user_rollups"] if r["grain"] == grain)]:
            place = (row["dimension_id"], local_bucket(row["bucket_at"], grain, zone), row["user_id"])
            said[place].append((row["event_count"], row["error_count"], row["unpriced_count"], row["cost"]))
        assert _added(said) == _added(by_user), grain


def _added(parts: dict[Any, list[tuple[int, int, int, Decimal]]]) -> dict[Any, tuple[int, int, int, Decimal]]:
    return {
        place: (*(sum(part[i] for part in rows) for i in range(3)), exact_sum(part[3] for part in rows))
        for place, rows in parts.items()
    }

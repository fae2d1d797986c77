"""Usage written into the tables as the processor would, and the answers to expect, computed from the events alone."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from shared.domain.periods import Grain, bucket_start
from shared.domain.service_types import SHIPPED
from shared.domain.tenancy import TenantScope
from shared.storage.event_store import DELTA_COLUMNS, EVENT_COLUMNS, USER_DELTA_COLUMNS
from shared.storage.vocabulary import DimensionKey, Vocabulary

_UTC = ZoneInfo("UTC")


@dataclass(frozen=True)
class Fact:
    """One event. `cost` None: unpriced; `currency` is "" unless it was priced."""

    key: int
    at: datetime
    service_type: str = "llm_service"
    service_provider: str = "openai"
    model: str = "gpt-4"
    event_type: str = "completion"
    customer_id: str = ""
    status: str = "success"
    user_id: str = "user-1"
    cost: Decimal | None = None
    currency: str = ""
    metrics: dict[str, int | Decimal] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    event_id: str | None = None

    @property
    def quantity(self) -> int | Decimal:
        kind = SHIPPED.get(self.service_type)
        return self.metrics.get(kind.quantity or "", 0) if kind is not None else 0

    def dimension(self, scope: TenantScope) -> DimensionKey:
        words = (self.service_type, self.service_provider, self.model, self.event_type, self.customer_id)
        return (scope.number, *words, "", self.status, self.currency)

    def measures(self) -> dict[str, int | Decimal]:
        found: dict[str, int | Decimal] = {**self.metrics, "$events": 1}
        if self.status == "failed":
            found["$errors"] = 1
        if self.cost is None:
            found["$unpriced"] = 1
        elif self.currency:
            found["$cost"] = self.cost
        return found


async def store(pool: asyncpg.Pool, scope: TenantScope, facts: Sequence[Fact]) -> None:
    """The events and their deltas, in one transaction, none of them folded."""
    await pool.execute("SELECT ensure_event_partitions($1::date[])", sorted({fact.at.date() for fact in facts}))
    vocabulary = await Vocabulary(pool).learn(
        dimensions=[fact.dimension(scope) for fact in facts],
        metrics=[name for fact in facts for name in fact.measures()],
    )
    rows = []
    deltas = []
    user_deltas = []
    for fact in facts:
        dimension_id = vocabulary.dimensions[fact.dimension(scope)]
        place = (scope.number, dimension_id, bucket_start(fact.at, Grain.QUARTER_HOUR, _UTC))
        columns: dict[str, Any] = {
            "tenant": scope.number,
            "dimension_id": dimension_id,
            "occurred_at": fact.at,
            "received_at": fact.at,
            "event_key": UUID(int=fact.key),
            "event_id": fact.event_id,
            "user_id": fact.user_id,
            "cost": fact.cost,
            "metrics": "{" + ", ".join(f'"{name}": {Decimal(value):f}' for name, value in fact.metrics.items()) + "}",
            "metadata": json.dumps(fact.metadata) if fact.metadata else None,
            "tags": list(fact.tags) or None,
            "service_version": 1,
        }
        rows.append(tuple(columns.get(name) for name in EVENT_COLUMNS))
        for name, value in fact.measures().items():
            deltas.append((*place, vocabulary.metrics[name], 1, value, value, value))
        is_failed, is_unpriced = fact.status == "failed", fact.cost is None
        counted = (1, int(is_failed), int(is_unpriced), fact.quantity, fact.cost or 0, 0)
        user_deltas.append((*place, fact.user_id, *counted))
    async with pool.acquire() as connection, connection.transaction():
        await connection.copy_records_to_table("usage_events", records=rows, columns=EVENT_COLUMNS)
        await connection.copy_records_to_table("rollup_deltas", records=deltas, columns=DELTA_COLUMNS)
        await connection.copy_records_to_table("user_rollup_deltas", records=user_deltas, columns=USER_DELTA_COLUMNS)


def counts(facts: Iterable[Fact]) -> dict[str, Any]:
    """What every report says of a set of events, with costs."""
    facts = list(facts)
    priced = sorted((fact for fact in facts if fact.currency), key=lambda fact: fact.currency)
    costs = [
        {"currency": currency, "total_cost": sum(fact.cost or 0 for fact in same)}
        for currency, same in groupby(priced, key=lambda fact: fact.currency)
    ]
    return {
        "event_count": len(facts),
        "error_count": sum(fact.status == "failed" for fact in facts),
        "unpriced_count": sum(fact.cost is None for fact in facts),
        "currency": costs[0]["currency"] if len(costs) == 1 else None,
        "total_cost": sum(item["total_cost"] for item in costs) if len(costs) <= 1 else None,
        "costs": costs,
        "charge": 0 if len(costs) <= 1 else None,
        "charges": [],
    }


def counts_and_metrics(facts: Iterable[Fact]) -> dict[str, Any]:
    facts = list(facts)
    values: dict[str, list[int | Decimal]] = {}
    for fact in facts:
        for name, value in fact.metrics.items():
            values.setdefault(name, []).append(value)
    return {
        **counts(facts),
        "metrics": {
            name: {"sum": sum(found), "min": min(found), "max": max(found), "count": len(found)}
            for name, found in sorted(values.items())
        },
    }


def local_period(at: datetime, zone: Any, period: str) -> tuple[int, ...]:
    """What is equal for two instants of the same local hour, day, week or month."""
    local = at.astimezone(zone)
    match period:
        case "hour":
            return (*local.timetuple()[:4], int(local.utcoffset().total_seconds()))
        case "day":
            return local.timetuple()[:3]
        case "week":
            return local.isocalendar()[:2]
        case _:
            return local.timetuple()[:2]


def grouped(facts: Iterable[Fact], key: Callable[[Fact], Any]) -> dict[Any, list[Fact]]:
    found: dict[Any, list[Fact]] = {}
    for fact in facts:
        found.setdefault(key(fact), []).append(fact)
    return found


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)

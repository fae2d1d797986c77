"""Reading usage: exact sums and rankings over any window, and the events themselves.

Every answer is one statement, so one snapshot: folded rollups, deltas not folded yet, and raw events for the edges
that are not on a 15-minute line. A fold moves rows between them in one transaction, and is seen as done or not done.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from shared.domain.money import EXACT, ZERO
from shared.domain.rollups import CHARGE, COST, ERRORS, EVENTS, UNPRICED
from shared.domain.tenancy import TenantScope
from shared.domain.windows import Period, Window
from shared.storage.database import Database
from shared.storage.rollup_queries import (
    Dimension,
    Ranking,
    UsageFilters,
    events_statement,
    sums_statement,
    top_users_statement,
)

__all__ = [
    "Dimension",
    "EventPage",
    "MetricSums",
    "Position",
    "Ranking",
    "Sums",
    "TopUsers",
    "UsageFilters",
    "UsageQueries",
    "UsageSums",
    "UserUsage",
]


@dataclass(slots=True)
class MetricSums:
    """What is known of one metric over many events."""

    count: int = 0
    total: Decimal = ZERO
    least: Decimal | None = None
    most: Decimal | None = None

    def add(self, other: "MetricSums") -> None:
        self.count += other.count
        self.total = EXACT.add(self.total, other.total)
        self.least = min((value for value in (self.least, other.least) if value is not None), default=None)
        self.most = max((value for value in (self.most, other.most) if value is not None), default=None)


@dataclass(slots=True)
class UsageSums:
    """What is known of many events. Amounts are by currency and never added across; metrics are the senders' own."""

    event_count: int = 0
    error_count: int = 0
    unpriced_count: int = 0
    costs: dict[str, MetricSums] = field(default_factory=dict)
    charges: dict[str, MetricSums] = field(default_factory=dict)
    metrics: dict[str, MetricSums] = field(default_factory=dict)

    def record(self, metric: str, currency: str, sums: MetricSums) -> None:
        if metric == EVENTS:
            self.event_count += sums.count
        elif metric == ERRORS:
            self.error_count += sums.count
        elif metric == UNPRICED:
            self.unpriced_count += sums.count
        elif metric == COST:
            self.costs.setdefault(currency, MetricSums()).add(sums)
        elif metric == CHARGE:
            self.charges.setdefault(currency, MetricSums()).add(sums)
        else:
            self.metrics.setdefault(metric, MetricSums()).add(sums)

    def add(self, other: "UsageSums") -> None:
        self.event_count += other.event_count
        self.error_count += other.error_count
        self.unpriced_count += other.unpriced_count
        for mine, theirs in (
            (self.costs, other.costs),
            (self.charges, other.charges),
            (self.metrics, other.metrics),
        ):
            for name, sums in theirs.items():
                mine.setdefault(name, MetricSums()).add(sums)


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one group in one bucket; only those with events are there."""

    bucket: int
    group: tuple[str, ...]
    usage: UsageSums


@dataclass(frozen=True, slots=True)
class UserUsage:
    """`quantity` is in the quantity of each service type: tokens, pages, requests, or what the tenant registered."""

    user_id: str
    quantity: Decimal
    usage: UsageSums


@dataclass(frozen=True, slots=True)
class TopUsers:
    """Best first. `currency` is the one they are ranked in, when they are ranked by cost and anything has a price."""

    users: Sequence[UserUsage]
    currency: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list of events, which is ordered by time and then key, newest first."""

    occurred_at: datetime
    event_key: UUID


@dataclass(frozen=True, slots=True)
class EventPage:
    """`events` have the columns that `rollup_queries` selects; `total_count` counts all that match."""

    events: Sequence[Row[Any]]
    has_more: bool
    total_count: int


class UsageQueries:
    """Reads of one tenant. A scope bound to a customer sees that customer's rows and no others, whatever is asked."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(
        self,
        scope: TenantScope,
        buckets: Sequence[Window],
        *,
        filters: UsageFilters,
        group_by: Sequence[Dimension] = (),
        metrics: Collection[str] | None = None,
        period: Period | None = None,
    ) -> list[Sums]:
        """Sums for each bucket and group. `buckets` are adjacent and in order; `period` is what they are, if they are
        one; `metrics` limits what is summed up: names of `shared.domain.rollups` and senders' own, None for all."""
        statement, parameters = sums_statement(
            scope, buckets, filters=filters, group_by=group_by, metrics=metrics, period=period
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(statement, parameters)).all()
        found: dict[tuple[int, tuple[str, ...]], UsageSums] = {}
        for bucket, currency, metric, count, total, least, most, *group in rows:
            usage = found.setdefault((bucket, tuple(group)), UsageSums())
            usage.record(metric, currency, MetricSums(count, total, least, most))
        return [Sums(bucket, group, found[bucket, group]) for bucket, group in sorted(found)]

    async def top_users(
        self,
        scope: TenantScope,
        window: Window,
        *,
        filters: UsageFilters,
        rank_by: Ranking,
        limit: int,
        currency: str | None = None,
    ) -> TopUsers:
        """The users with most of `rank_by`, those with none left out; equals by name. Cost is ranked within one
        currency: the given one, else the one most events are priced in."""
        statement, parameters = top_users_statement(
            scope, window, filters=filters, rank_by=rank_by, limit=limit, currency=currency
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(statement, parameters)).all()
        users: dict[str, UserUsage] = {}
        for row in rows:
            user = users.get(row.user_id)
            if user is None:
                user = users[row.user_id] = UserUsage(row.user_id, row.user_quantity, UsageSums())
            amounts = {row.currency: MetricSums(row.event_count, row.cost)} if row.currency else {}
            charges = {row.currency: MetricSums(row.event_count, row.charge)} if row.charge else {}
            user.usage.add(UsageSums(row.event_count, row.error_count, row.unpriced_count, amounts, charges))
        ranked_in = rows[0].ranked_in if rows and rank_by is Ranking.COST else None
        return TopUsers(list(users.values()), ranked_in)

    async def list_events(
        self,
        scope: TenantScope,
        window: Window,
        *,
        filters: UsageFilters,
        limit: int,
        offset: int = 0,
        after: Position | None = None,
    ) -> EventPage:
        """Events, newest first, from `offset` or else after a position; counted and listed in one snapshot."""
        count, count_parameters = sums_statement(scope, [window], filters=filters, metrics=(EVENTS,))
        before = None if after is None else (after.occurred_at, after.event_key)
        listing, listing_parameters = events_statement(
            scope, window, filters=filters, before=before, limit=limit + 1, offset=offset
        )
        async with self._database.transaction() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            counted = (await connection.execute(count, count_parameters)).all()
            events = (await connection.execute(listing, listing_parameters)).all()
        return EventPage(events[:limit], len(events) > limit, sum(row.value_count for row in counted))

"""Reading usage: exact sums and rankings over any window, and the events themselves.

Every answer is one statement, so one snapshot: folded rollups, deltas not folded yet, and raw events for the edges that
are not on a 15-minute line. A fold moves rows from one to the other in one transaction, and is seen as done or not done.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Row, TextClause, text

from shared.domain.money import EXACT, ZERO
from shared.domain.periods import Grain
from shared.domain.rollups import CHARGE, COST, ERRORS, EVENTS, RESERVED, UNPRICED
from shared.domain.service_types import SHIPPED
from shared.domain.tenancy import TenantScope
from shared.domain.windows import Period, Segment, Window, cut, ladder
from shared.storage.database import Database
from shared.storage.rollups import ROLLUP_GRAINS, USER_GRAINS


class Dimension(StrEnum):
    """What sums can be grouped by: columns of `dimension_sets`."""

    SERVICE_TYPE = "service_type"
    SERVICE_PROVIDER = "service_provider"
    MODEL = "model"
    EVENT_TYPE = "event_type"
    CUSTOMER_ID = "customer_id"
    JOB_TYPE = "job_type"
    STATUS = "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageFilters:
    """Only usage with exactly these words; None asks for any, "" for usage without one. An event has all `tags`."""

    service_type: str | None = None
    service_provider: str | None = None
    model: str | None = None
    event_type: str | None = None
    customer_id: str | None = None
    job_type: str | None = None
    status: str | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = ()


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


class Ranking(StrEnum):
    """What users can be ranked by: columns of the rollups by user."""

    EVENT_COUNT = "event_count"
    ERROR_COUNT = "error_count"
    QUANTITY = "quantity"
    COST = "cost"


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
    """`events` are rows of `_EVENTS`; `has_more` says that others follow; `total_count` counts all that match."""

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
        """Sums for each bucket and group. `buckets` are adjacent and in order; `metrics` limits what is summed up (names of
        `shared.domain.rollups` and senders' own; None: all); `period` is what the buckets are, where they are one."""
        statement, parameters = _sums_statement(
            scope, buckets, filters=filters, group_by=group_by, metrics=metrics, period=period
        )
        async with self._database.transaction() as connection:
            rows = (await connection.execute(statement, parameters)).all()
        found: dict[tuple[int, tuple[str, ...]], UsageSums] = {}
        for bucket, currency, metric, count, total, least, most, *group in rows:
            usage = found.setdefault((bucket, tuple(group)), UsageSums())
            usage.record(metric, currency, MetricSums(count, total, least, most))
        return [Sums(bucket, group, usage) for (bucket, group), usage in sorted(found.items(), key=lambda item: item[0])]

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
        """The users with most of `rank_by`, those with none left out; equals by name. Cost is ranked within one currency:
        the given one, else the one most events are priced in."""
        cover = _Cover.of([window], scope, ladder(USER_GRAINS))
        parameters = {
            **_scope_parameters(scope, filters),
            **cover.parameters(),
            **_QUANTITIES,
            "currency": currency,
            "limit": limit,
        }
        query = _TOP_USERS.format(measured=_user_measured(cover), rank=_RANKS[rank_by])
        async with self._database.transaction() as connection:
            rows = (await connection.execute(text(query), parameters)).all()
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
        count, count_parameters = _sums_statement(scope, [window], filters=filters, metrics=(EVENTS,))
        before = after or Position(window.end, UUID(int=0))
        parameters = {
            **_scope_parameters(scope, filters),
            "start": window.start,
            "before_at": before.occurred_at,
            "before_key": before.event_key,
            "limit": limit + 1,
            "offset": offset,
        }
        async with self._database.transaction() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            counted = (await connection.execute(count, count_parameters)).all()
            events = (await connection.execute(text(_EVENTS), parameters)).all()
        return EventPage(events[:limit], len(events) > limit, sum(row.value_count for row in counted))


# --- what covers a window ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cover:
    """The segments of every bucket, as a statement wants them."""

    buckets: Sequence[Window]
    segments: Sequence[tuple[int, Segment]]

    @classmethod
    def of(cls, buckets: Sequence[Window], scope: TenantScope, grains: Sequence[Grain]) -> "_Cover":
        zone = ZoneInfo(scope.timezone)
        return cls(buckets, [(i, segment) for i, bucket in enumerate(buckets) for segment in cut(bucket, zone, grains)])

    @property
    def has_rollups(self) -> bool:
        return any(segment.grain is not None for _, segment in self.segments)

    @property
    def has_events(self) -> bool:
        return any(segment.grain is None for _, segment in self.segments)

    def parameters(self) -> dict[str, Any]:
        """The parameters of `_SEGMENTS` and of what reads from it. Between raw edges the rest is one whole stretch."""
        parameters: dict[str, Any] = {
            "numbers": [number for number, _ in self.segments],
            "grains": [segment.grain for _, segment in self.segments],
            "starts": [segment.start for _, segment in self.segments],
            "ends": [segment.end for _, segment in self.segments],
        }
        if whole := [segment for _, segment in self.segments if segment.grain is not None]:
            parameters["lines"] = [bucket.start for bucket in self.buckets]
            parameters |= {"whole_start": whole[0].start, "whole_end": whole[-1].end}
        if raw := [segment for _, segment in self.segments if segment.grain is None]:
            parameters |= {"raw_start": raw[0].start, "raw_end": raw[-1].end}
        return parameters


def _sums_statement(
    scope: TenantScope,
    buckets: Sequence[Window],
    *,
    filters: UsageFilters,
    group_by: Sequence[Dimension] = (),
    metrics: Collection[str] | None,
    period: Period | None = None,
) -> tuple[TextClause, dict[str, Any]]:
    """Rollups know no tags, and of users only what `user_rollups` holds: other questions go to the events themselves."""
    is_by_user = filters.user_id is not None and metrics is not None and set(metrics) <= set(RESERVED)
    if filters.tags or (filters.user_id is not None and not is_by_user):
        is_by_user = False
        cover = _Cover.of(buckets, scope, [])
    else:
        cover = _Cover.of(buckets, scope, ladder(USER_GRAINS if is_by_user else ROLLUP_GRAINS, period))
    measured = _user_measured(cover) + _BY_METRIC if is_by_user else _measured(cover)
    query = _SUMS.format(measured=measured, group="".join(f", w.{column.value}" for column in group_by))
    parameters = {
        **_scope_parameters(scope, filters),
        **cover.parameters(),
        "metrics": None if metrics is None else list(metrics),
    }
    return text(query), parameters | _QUANTITIES if is_by_user else parameters


def _measured(cover: _Cover) -> str:
    parts = ([_FOLDED, _UNFOLDED] if cover.has_rollups else []) + ([_RAW] if cover.has_events else [])
    return f"measured AS ({' UNION ALL '.join(parts)})"


def _user_measured(cover: _Cover) -> str:
    parts = ([_USER_FOLDED, _USER_UNFOLDED] if cover.has_rollups else []) + ([_USER_RAW] if cover.has_events else [])
    return f"by_user AS ({' UNION ALL '.join(parts)})"


def _scope_parameters(scope: TenantScope, filters: UsageFilters) -> dict[str, Any]:
    return {
        "tenant": scope.number,
        "scope_customer_id": scope.customer_id,
        "user_id": filters.user_id,
        "tags": list(filters.tags),
        **{column.value: getattr(filters, column) for column in Dimension},
    }


# --- statements --------------------------------------------------------------------------------------------------------

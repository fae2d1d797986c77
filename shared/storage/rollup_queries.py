"""The statements that read usage, and how a window becomes their parameters.

Each is one statement over three sources: folded rollups, deltas not folded yet, and raw events. `sums_statement` and
`top_users_statement` choose the sources; everything that is filled into a text is written in this module.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import TextClause, text

from shared.domain.periods import Grain
from shared.domain.rollups import CHARGE, COST, ERRORS, EVENTS, RESERVED, UNPRICED
from shared.domain.service_types import SHIPPED
from shared.domain.tenancy import TenantScope
from shared.domain.windows import Period, Segment, Window, cut, ladder
from shared.storage.rollups import ROLLUP_GRAINS, USER_GRAINS

Statement = tuple[TextClause, dict[str, Any]]


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


class Ranking(StrEnum):
    """What users can be ranked by: columns of the rollups by user."""

    EVENT_COUNT = "event_count"
    ERROR_COUNT = "error_count"
    QUANTITY = "quantity"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Cover:
    """The segments of every bucket, as a statement wants them."""

    buckets: Sequence[Window]
    segments: Sequence[tuple[int, Segment]]

    @classmethod
    def of(cls, buckets: Sequence[Window], scope: TenantScope, grains: Sequence[Grain]) -> "Cover":
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


def sums_statement(
    scope: TenantScope,
    buckets: Sequence[Window],
    *,
    filters: UsageFilters,
    group_by: Sequence[Dimension] = (),
    metrics: Collection[str] | None,
    period: Period | None = None,
) -> Statement:
    """Rollups know no tags, and of users only our own counts and amounts: other questions go to the events."""
    is_kept_by_user = metrics is not None and set(metrics) <= set(RESERVED)
    if filters.tags or (filters.user_id is not None and not is_kept_by_user):
        cover = Cover.of(buckets, scope, [])
        measured = _measured(cover)
    elif filters.user_id is not None:
        cover = Cover.of(buckets, scope, ladder(USER_GRAINS, period))
        measured = f"{_by_user(cover, key='w.id')}, {_BY_METRIC}"
    else:
        cover = Cover.of(buckets, scope, ladder(ROLLUP_GRAINS, period))
        measured = _measured(cover)
    query = _SUMS.format(measured=measured, group="".join(f", w.{column.value}" for column in group_by))
    parameters = {
        **_parameters(scope, filters),
        **cover.parameters(),
        **_QUANTITIES,
        "metrics": None if metrics is None else list(metrics),
    }
    return text(query), parameters


def top_users_statement(
    scope: TenantScope,
    window: Window,
    *,
    filters: UsageFilters,
    rank_by: Ranking,
    limit: int,
    currency: str | None,
) -> Statement:
    """Rows of the best users, best first, one for each currency of a user."""
    cover = Cover.of([window], scope, ladder(USER_GRAINS))
    query = _TOP_USERS.format(by_user=_by_user(cover, key="w.currency"), rank=_RANKS[rank_by])
    parameters = {
        **_parameters(scope, filters),
        **cover.parameters(),
        **_QUANTITIES,
        "currency": currency,
        "limit": limit,
    }
    return text(query), parameters


def events_statement(
    scope: TenantScope,
    window: Window,
    *,
    filters: UsageFilters,
    before: tuple[datetime, UUID] | None,
    limit: int,
    offset: int,
) -> Statement:
    """Events, newest first; `before` is the time and key of the last one seen."""
    before_at, before_key = before or (window.end, UUID(int=0))
    parameters = {
        **_parameters(scope, filters),
        "start": window.start,
        "end": window.end,
        "before_at": before_at,
        "before_key": before_key,
        "limit": limit,
        "offset": offset,
    }
    return text(_EVENTS), parameters


def _parameters(scope: TenantScope, filters: UsageFilters) -> dict[str, Any]:
    return {
        "tenant": scope.number,
        "scope_customer_id": scope.customer_id,
        "user_id": filters.user_id,
        "tags": list(filters.tags),
        **{column.value: getattr(filters, column) for column in Dimension},
    }


def _measured(cover: Cover) -> str:
    parts = ([_FOLDED, _UNFOLDED] if cover.has_rollups else []) + ([_RAW] if cover.has_events else [])
    return f"measured {_MEASURED_COLUMNS} AS ({' UNION ALL '.join(parts)})"


def _by_user(cover: Cover, *, key: str) -> str:
    """`key` is what is told apart beside users, of a dimension set `w`: the less, the fewer rows to sort."""
    parts = ([_USER_FOLDED, _USER_UNFOLDED] if cover.has_rollups else []) + ([_USER_RAW] if cover.has_events else [])
    return f"by_user {_BY_USER_COLUMNS} AS ({' UNION ALL '.join(parts).format(key=key)})"


# --- the texts -------------------------------------------------------------------------------------------------------

_HAS_WORDS: Final = "".join(f"\n      AND (CAST(:{name} AS text) IS NULL OR {name} = :{name})" for name in Dimension)

_WANTED: Final = f"""
wanted AS MATERIALIZED (
    SELECT * FROM dimension_sets
    WHERE tenant = :tenant
      AND (CAST(:scope_customer_id AS text) IS NULL OR customer_id = :scope_customer_id){_HAS_WORDS}
)"""  # noqa: S608 - names of our own

_SEGMENTS: Final = """
segment AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:numbers AS int[]), CAST(:grains AS smallint[]),
        CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])
    ) AS s (bucket, grain, start_at, end_at)
)"""

_IS_USER: Final = "(CAST(:user_id AS text) IS NULL OR user_id = :user_id)"

# IS TRUE keeps these from becoming joins: a hash of the ids is built once and asked for every row, whatever the planner
# believes about how few rows there will be.
_HAS_WANTED_WORDS: Final = "(dimension_id IN (SELECT id FROM wanted)) IS TRUE"
_IS_WANTED_METRIC: Final = "(metric_id IN (SELECT id FROM wanted_metric)) IS TRUE"

_MEASURED_COLUMNS: Final = "(bucket, dimension_id, metric, value_count, value_sum, value_min, value_max)"
_BY_USER_COLUMNS: Final = "(bucket, key, user_id, event_count, error_count, unpriced_count, quantity, cost, charge)"

# Every segment by itself (LATERAL, grouped inside) is one range of the primary key, however many there are.
_FOLDED: Final = f"""
    SELECT s.bucket, r.dimension_id, m.name, r.value_count, r.value_sum, r.value_min, r.value_max
    FROM segment s
    CROSS JOIN LATERAL (
        SELECT dimension_id, metric_id, sum(value_count)::bigint AS value_count, sum(value_sum) AS value_sum,
               min(value_min) AS value_min, max(value_max) AS value_max
        FROM rollups
        WHERE tenant = :tenant AND grain = s.grain AND bucket_at >= s.start_at AND bucket_at < s.end_at
          AND {_HAS_WANTED_WORDS} AND {_IS_WANTED_METRIC}
        GROUP BY dimension_id, metric_id
    ) r
    JOIN metrics m ON m.id = r.metric_id"""  # noqa: S608 - constants

_UNFOLDED: Final = f"""
    SELECT width_bucket(d.bucket_at, CAST(:lines AS timestamptz[])) - 1, d.dimension_id, m.name,
           d.value_count, d.value_sum, d.value_min, d.value_max
    FROM rollup_deltas d
    JOIN metrics m ON m.id = d.metric_id
    WHERE d.tenant = :tenant AND d.bucket_at >= :whole_start AND d.bucket_at < :whole_end
      AND {_HAS_WANTED_WORDS} AND {_IS_WANTED_METRIC}"""  # noqa: S608 - constants

# What rollups hold of an event, from the event itself. The outer bounds tell the planner which partitions matter.
_RAW: Final = f"""
    SELECT s.bucket, r.dimension_id, r.metric, r.value_count, r.value_sum, r.value_min, r.value_max
    FROM segment s
    CROSS JOIN LATERAL (
        SELECT e.dimension_id, v.metric, count(*) AS value_count, sum(v.value) AS value_sum,
               min(v.value) AS value_min, max(v.value) AS value_max
        FROM usage_events e
        JOIN dimension_sets w ON w.id = e.dimension_id
        CROSS JOIN LATERAL (
            SELECT '{EVENTS}' AS metric, 1::numeric AS value
            UNION ALL SELECT '{ERRORS}', 1 WHERE w.status = 'failed'
            UNION ALL SELECT '{UNPRICED}', 1 WHERE e.cost IS NULL
            UNION ALL SELECT '{COST}', e.cost WHERE e.cost IS NOT NULL AND w.currency <> ''
            UNION ALL SELECT '{CHARGE}', e.charge WHERE e.charge IS NOT NULL
            UNION ALL SELECT key, value::numeric FROM jsonb_each_text(e.metrics)
        ) v
        WHERE e.tenant = :tenant AND e.occurred_at >= s.start_at AND e.occurred_at < s.end_at
          AND e.occurred_at >= :raw_start AND e.occurred_at < :raw_end
          AND (CAST(:metrics AS text[]) IS NULL OR v.metric = ANY (:metrics))
          AND {_HAS_WANTED_WORDS} AND {_IS_USER} AND coalesce(e.tags, '{{}}') @> CAST(:tags AS text[])
        GROUP BY e.dimension_id, v.metric
    ) r
    WHERE s.grain IS NULL"""  # noqa: S608 - names of our own

_SUMS: Final = f"""
WITH {_WANTED}, {_SEGMENTS},
wanted_metric AS MATERIALIZED (
    SELECT id, name FROM metrics WHERE CAST(:metrics AS text[]) IS NULL OR name = ANY (:metrics)
),
{{measured}}
SELECT m.bucket, w.currency, m.metric, sum(m.value_count)::bigint AS value_count, sum(m.value_sum) AS value_sum,
       min(m.value_min) AS value_min, max(m.value_max) AS value_max{{group}}
FROM measured m
JOIN dimension_sets w ON w.id = m.dimension_id
GROUP BY m.bucket, w.currency, m.metric{{group}}
"""  # noqa: S608 - what is filled in is written here

_USER_FOLDED: Final = f"""
    SELECT s.bucket, r.*
    FROM segment s
    CROSS JOIN LATERAL (
        SELECT {{key}}, user_id, sum(event_count)::bigint, sum(error_count)::bigint, sum(unpriced_count)::bigint,
               sum(quantity), sum(cost), sum(charge)
        FROM user_rollups u
        JOIN dimension_sets w ON w.id = u.dimension_id
        WHERE u.tenant = :tenant AND grain = s.grain AND bucket_at >= s.start_at AND bucket_at < s.end_at
          AND {_HAS_WANTED_WORDS} AND {_IS_USER}
        GROUP BY {{key}}, user_id
    ) r"""  # noqa: S608 - constants

_USER_UNFOLDED: Final = f"""
    SELECT width_bucket(bucket_at, CAST(:lines AS timestamptz[])) - 1, {{key}}, user_id,
           event_count, error_count, unpriced_count, quantity, cost, charge
    FROM user_rollup_deltas u
    JOIN dimension_sets w ON w.id = u.dimension_id
    WHERE u.tenant = :tenant AND bucket_at >= :whole_start AND bucket_at < :whole_end
      AND {_HAS_WANTED_WORDS} AND {_IS_USER}"""  # noqa: S608 - constants

# The quantity of an event is the metric that its service type was registered with, or shipped with.
_USER_RAW: Final = f"""
    SELECT s.bucket, r.*
    FROM segment s
    CROSS JOIN LATERAL (
        SELECT {{key}}, e.user_id, count(*), count(*) FILTER (WHERE w.status = 'failed'),
               count(*) FILTER (WHERE e.cost IS NULL), coalesce(sum((e.metrics ->> q.metric)::numeric), 0),
               coalesce(sum(e.cost), 0), coalesce(sum(e.charge), 0)
        FROM usage_events e
        JOIN dimension_sets w ON w.id = e.dimension_id
        LEFT JOIN (
            SELECT service_type, version, billing_config ->> 'unit' AS metric FROM service_types WHERE tenant = :tenant
            UNION ALL
            SELECT shipped.service_type, 1, shipped.metric
            FROM unnest(CAST(:shipped AS text[]), CAST(:shipped_quantities AS text[])) AS shipped (service_type, metric)
            WHERE shipped.service_type NOT IN (SELECT service_type FROM service_types WHERE tenant = :tenant)
        ) q ON q.service_type = w.service_type AND q.version = e.service_version
        WHERE e.tenant = :tenant AND e.occurred_at >= s.start_at AND e.occurred_at < s.end_at
          AND e.occurred_at >= :raw_start AND e.occurred_at < :raw_end
          AND {_HAS_WANTED_WORDS} AND {_IS_USER}
        GROUP BY {{key}}, e.user_id
    ) r
    WHERE s.grain IS NULL"""  # noqa: S608 - constants

_QUANTITIES: Final[Mapping[str, Any]] = {
    "shipped": list(SHIPPED),
    "shipped_quantities": [kind.quantity for kind in SHIPPED.values()],
}

_BY_METRIC: Final = f"""
measured {_MEASURED_COLUMNS} AS (
    SELECT b.bucket, b.key, v.metric, v.value_count, v.value_sum, NULL::numeric, NULL::numeric
    FROM by_user b
    JOIN dimension_sets w ON w.id = b.key
    CROSS JOIN LATERAL (
        VALUES ('{EVENTS}', b.event_count, b.event_count::numeric),
               ('{ERRORS}', b.error_count, b.error_count),
               ('{UNPRICED}', b.unpriced_count, b.unpriced_count),
               ('{COST}', CASE WHEN w.currency <> '' THEN b.event_count - b.unpriced_count END, b.cost),
               ('{CHARGE}', CASE WHEN b.charge <> 0 THEN b.event_count END, b.charge)
    ) AS v (metric, value_count, value_sum)
    WHERE v.value_count > 0 AND v.metric IN (SELECT name FROM wanted_metric)
)"""  # noqa: S608 - names of our own

_RANKS: Final[Mapping[Ranking, str]] = {
    Ranking.EVENT_COUNT: "sum(event_count)",
    Ranking.ERROR_COUNT: "sum(error_count)",
    Ranking.QUANTITY: "sum(quantity)",
    Ranking.COST: "sum(cost) FILTER (WHERE key = ranked_in.currency)",
}

# Here the key of `by_user` is the currency.
_TOP_USERS: Final = f"""
WITH {_WANTED}, {_SEGMENTS},
{{by_user}},
ranked_in AS MATERIALIZED (
    SELECT coalesce(CAST(:currency AS text), (
        SELECT key FROM by_user WHERE key <> '' GROUP BY key ORDER BY sum(event_count) DESC, key COLLATE "C" LIMIT 1
    )) AS currency
),
ranked AS MATERIALIZED (
    SELECT user_id, {{rank}} AS value, sum(quantity) AS quantity
    FROM by_user CROSS JOIN ranked_in
    GROUP BY user_id HAVING {{rank}} > 0
    ORDER BY value DESC, user_id COLLATE "C" LIMIT :limit
)
SELECT r.user_id, r.quantity AS user_quantity, ranked_in.currency AS ranked_in, b.key AS currency,
       sum(b.event_count)::bigint AS event_count, sum(b.error_count)::bigint AS error_count,
       sum(b.unpriced_count)::bigint AS unpriced_count, sum(b.cost) AS cost, sum(b.charge) AS charge
FROM ranked r
JOIN by_user b ON b.user_id = r.user_id
CROSS JOIN ranked_in
GROUP BY r.user_id, r.value, r.quantity, ranked_in.currency, b.key
ORDER BY r.value DESC, r.user_id COLLATE "C", b.key COLLATE "C"
"""  # noqa: S608 - what is filled in is written here

# A row comparison cannot choose partitions: `occurred_at <=` says the same once more, for the planner.
_EVENTS: Final = f"""
WITH {_WANTED}
SELECT coalesce(e.event_id, e.event_key::text) AS event_id, coalesce(e.source, '') AS source, e.event_key,
       e.occurred_at, e.received_at, e.user_id, w.customer_id, w.service_type, w.service_provider, w.event_type,
       w.model, w.job_type, w.status, w.currency, e.cost, e.charge, e.metrics::text AS metrics,
       (coalesce(e.metadata, '{{}}') || CASE w.model WHEN '' THEN '{{}}' ELSE jsonb_build_object('model', w.model) END
       )::text AS metadata,
       coalesce(e.tags, '{{}}') AS tags, e.session_id, e.request_id, e.job_id, e.run_id, e.span_id, e.parent_span_id,
       e.section, e.error_message
FROM usage_events e
JOIN dimension_sets w ON w.id = e.dimension_id
WHERE e.tenant = :tenant AND e.occurred_at >= :start AND e.occurred_at < :end AND e.occurred_at <= :before_at
  AND (e.occurred_at, e.event_key) < (:before_at, CAST(:before_key AS uuid))
  AND {_HAS_WANTED_WORDS} AND {_IS_USER} AND coalesce(e.tags, '{{}}') @> CAST(:tags AS text[])
ORDER BY e.occurred_at DESC, e.event_key DESC
LIMIT :limit OFFSET :offset
"""  # noqa: S608 - constants

"""Folding: deltas leave their table and enter the rollups at every grain, in one statement of one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import asyncpg

from shared.domain.periods import Grain, bucket_start

ROLLUP_GRAINS = (Grain.QUARTER_HOUR, Grain.HOUR, Grain.DAY, Grain.WEEK, Grain.MONTH)
USER_GRAINS = (Grain.QUARTER_HOUR, Grain.DAY, Grain.MONTH)

_FOLD_LOCK = 7361004

_OPEN_BUCKETS = """
SELECT DISTINCT d.tenant, d.bucket_at, t.timezone
FROM (SELECT tenant, bucket_at FROM rollup_deltas LIMIT $1) d JOIN tenants t ON t.number = d.tenant
"""

_OPEN_USER_BUCKETS = _OPEN_BUCKETS.replace("rollup_deltas", "user_rollup_deltas")

# $1 tenant, $2 base bucket, $3 grain, $4 bucket of that grain: where every base bucket goes; $5 how many rows at most.
# Deleted by physical place, safely, as only the elected folder deletes: it ends in time, however long the backlog.
_FOLD = """
WITH target AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::smallint[], $4::timestamptz[])
        AS t (tenant, base_at, grain, bucket_at)
), taken AS (
    DELETE FROM rollup_deltas WHERE ctid = ANY (ARRAY(
        SELECT d.ctid FROM rollup_deltas d
        JOIN (SELECT DISTINCT tenant, base_at FROM target) b ON d.tenant = b.tenant AND d.bucket_at = b.base_at
        LIMIT $5
    ))
    RETURNING *
), summed AS (
    SELECT tenant, bucket_at AS base_at, dimension_id, metric_id, count(*) AS row_count,
           sum(value_count)::bigint AS value_count, sum(value_sum) AS value_sum,
           min(value_min) AS value_min, max(value_max) AS value_max
    FROM taken GROUP BY 1, 2, 3, 4
), folded AS (
    INSERT INTO rollups AS r
        (tenant, grain, bucket_at, dimension_id, metric_id, value_count, value_sum, value_min, value_max)
    SELECT tenant, t.grain, t.bucket_at, s.dimension_id, s.metric_id,
           sum(s.value_count)::bigint, sum(s.value_sum), min(s.value_min), max(s.value_max)
    FROM summed s JOIN target t USING (tenant, base_at)
    GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant, grain, bucket_at, dimension_id, metric_id) DO UPDATE SET
        value_count = r.value_count + excluded.value_count,
        value_sum = r.value_sum + excluded.value_sum,
        value_min = least(r.value_min, excluded.value_min),
        value_max = greatest(r.value_max, excluded.value_max)
)
SELECT coalesce(sum(row_count), 0)::bigint FROM summed
"""

_FOLD_USERS = """
WITH target AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::timestamptz[], $3::smallint[], $4::timestamptz[])
        AS t (tenant, base_at, grain, bucket_at)
), taken AS (
    DELETE FROM user_rollup_deltas WHERE ctid = ANY (ARRAY(
        SELECT d.ctid FROM user_rollup_deltas d
        JOIN (SELECT DISTINCT tenant, base_at FROM target) b ON d.tenant = b.tenant AND d.bucket_at = b.base_at
        LIMIT $5
    ))
    RETURNING *
), summed AS (
    SELECT tenant, bucket_at AS base_at, dimension_id, user_id, count(*) AS row_count,
           sum(event_count)::bigint AS event_count, sum(error_count)::bigint AS error_count,
           sum(unpriced_count)::bigint AS unpriced_count,
           sum(quantity) AS quantity, sum(cost) AS cost, sum(charge) AS charge
    FROM taken GROUP BY 1, 2, 3, 4
), folded AS (
    INSERT INTO user_rollups AS r
        (tenant, grain, bucket_at, dimension_id, user_id,
         event_count, error_count, unpriced_count, quantity, cost, charge)
    SELECT tenant, t.grain, t.bucket_at, s.dimension_id, s.user_id,
           sum(s.event_count)::bigint, sum(s.error_count)::bigint, sum(s.unpriced_count)::bigint,
           sum(s.quantity), sum(s.cost), sum(s.charge)
    FROM summed s JOIN target t USING (tenant, base_at)
    GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (tenant, grain, bucket_at, dimension_id, user_id) DO UPDATE SET
        event_count = r.event_count + excluded.event_count,
        error_count = r.error_count + excluded.error_count,
        unpriced_count = r.unpriced_count + excluded.unpriced_count,
        quantity = r.quantity + excluded.quantity,
        cost = r.cost + excluded.cost,
        charge = r.charge + excluded.charge
)
SELECT coalesce(sum(row_count), 0)::bigint FROM summed
"""


@dataclass(frozen=True, slots=True)
class Folded:
    """How many delta rows were folded, and whether there were more than one fold takes. `was_elected` is False when
    another instance holds the lock."""

    rows: int
    has_more: bool = False
    was_elected: bool = True


class RollupFolder:
    def __init__(self, pool: asyncpg.Pool, *, rows_per_fold: int = 200_000) -> None:
        self._pool = pool
        self._rows_per_fold = rows_per_fold

    async def fold(self) -> Folded:
        """Fold what is there, up to `rows_per_fold` of each kind; `has_more` says to call again.

        One folder at a time, elected by a lock that ends with the transaction: a killed one leaves nothing behind.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _FOLD_LOCK):
                return Folded(rows=0, was_elected=False)
            rows, has_more = 0, False
            for open_buckets, fold, grains in (
                (_OPEN_BUCKETS, _FOLD, ROLLUP_GRAINS),
                (_OPEN_USER_BUCKETS, _FOLD_USERS, USER_GRAINS),
            ):
                buckets = await connection.fetch(open_buckets, self._rows_per_fold)
                if buckets:
                    targets = _targets([tuple(row) for row in buckets], grains)
                    columns = (list(column) for column in zip(*targets, strict=True))
                    folded = await connection.fetchval(fold, *columns, self._rows_per_fold)
                    rows += folded
                    has_more |= folded >= self._rows_per_fold
            return Folded(rows, has_more)

    async def lag_seconds(self) -> float:
        """Age of the oldest delta not folded yet; 0 when there is none."""
        oldest = await self._pool.fetchval("SELECT extract(epoch FROM now() - min(created_at)) FROM rollup_deltas")
        return max(0.0, float(oldest or 0))


def _targets(
    buckets: Sequence[tuple[int, datetime, str]], grains: Sequence[Grain]
) -> list[tuple[int, datetime, int, datetime]]:
    """For each open quarter hour of a tenant, the bucket it adds to at every grain, in the tenant's zone."""
    return [
        (tenant, base_at, int(grain), bucket_start(base_at, grain, ZoneInfo(timezone)))
        for tenant, base_at, timezone in buckets
        for grain in grains
    ]

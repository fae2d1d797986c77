"""What grows is bounded here: partitions made ahead, old events dropped whole, old keys and rollups cut in slices."""

from datetime import datetime, timedelta

import asyncpg

from shared.domain.periods import Grain

_UPKEEP_LOCK = 7361005
_SLICE = 20_000

# deleted by physical place, a slice at a time: short transactions, and no index on time needed beyond BRIN
_DELETE_KEYS = """
DELETE FROM event_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM event_keys WHERE received_at < $1 LIMIT $2))
"""
_DELETE_OUTCOMES = """
DELETE FROM ingest_outcomes WHERE ctid = ANY (ARRAY(SELECT ctid FROM ingest_outcomes WHERE recorded_at < $1 LIMIT $2))
"""
_DELETE_ROLLUPS = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE bucket_at < $1 AND grain < $3 LIMIT $2))
"""


class Upkeep:
    """Each method may be called by several instances at once and again at any time."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def make_partitions(self, *, now: datetime, days_ahead: int) -> None:
        days = [(now + timedelta(days=offset)).date() for offset in range(-1, days_ahead + 1)]
        await self._pool.execute("SELECT ensure_event_partitions($1::date[])", days)

    async def drop_events(self, *, older_than: datetime) -> int:
        """Drop whole partitions that end before `older_than`; rollups keep their sums. How many were dropped.

        Raises LockNotAvailableError where long queries are in the way: the next call drops them too.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _UPKEEP_LOCK):
                return 0
            # a drop waits for every reader and writer of the table, and all who come later wait behind it: not for long
            await connection.execute("SET LOCAL lock_timeout = '2s'")
            return int(await connection.fetchval("SELECT drop_event_partitions($1)", older_than))

    async def delete_keys(self, *, received_before: datetime) -> int:
        """Forget identities that left the deduplication window. How many."""
        await self._delete(_DELETE_OUTCOMES, received_before)
        return await self._delete(_DELETE_KEYS, received_before)

    async def delete_rollups(self, *, older_than: datetime) -> int:
        """Delete rollups finer than a month that are past their retention; months stay."""
        return sum(
            [
                await self._delete(_DELETE_ROLLUPS.format(table=table), older_than, int(Grain.MONTH))
                for table in ("rollups", "user_rollups")
            ]
        )

    async def _delete(self, statement: str, before: datetime, *more: int) -> int:
        deleted = 0
        while True:
            tag = await self._pool.execute(statement, before, _SLICE, *more)
            count = int(tag.rsplit(" ", 1)[1])
            deleted += count
            if count < _SLICE:
                return deleted

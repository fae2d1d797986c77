"""Writes one batch of events: identities, events, their sums, and what was not new, in one transaction.

The batch comes as columns (one list per field, all of the same length), ready for the wire: nothing here looks at a
single event except to tell the new ones from the ones already stored.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID as UUID  # the driver's own: made, compared and sent without Python code

Row = tuple[Any, ...]

_INSERT_KEYS = """
INSERT INTO event_keys (tenant, event_key, fingerprint, receipt, occurred_at, received_at, is_timestamped)
SELECT tenant, event_key, fingerprint, receipt,
       'epoch'::timestamptz + occurred_at * interval '1 microsecond',
       'epoch'::timestamptz + received_at * interval '1 microsecond',
       is_timestamped
FROM unnest($1::int[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bool[])
    AS k (tenant, event_key, fingerprint, receipt, occurred_at, received_at, is_timestamped)
ON CONFLICT DO NOTHING
RETURNING tenant, event_key
"""

_STORED_KEYS = """
SELECT k.tenant, k.event_key, k.fingerprint, k.receipt, k.is_timestamped,
       (extract(epoch FROM k.occurred_at) * 1000000)::bigint AS occurred_at
FROM event_keys k JOIN unnest($1::int[], $2::uuid[]) AS w (tenant, event_key) USING (tenant, event_key)
"""

_OUTCOMES = """
INSERT INTO ingest_outcomes (tenant, receipt, duplicate_count, conflict_count)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::int[], $4::int[])
ON CONFLICT DO NOTHING
RETURNING duplicate_count, conflict_count
"""

_CONFLICTS = """
INSERT INTO event_conflicts (tenant, event_key, event_id, source, fingerprint, receipt, body, received_at)
SELECT tenant, event_key, event_id, source, fingerprint, receipt, body,
       'epoch'::timestamptz + received_at * interval '1 microsecond'
FROM unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::jsonb[], $8::bigint[])
    AS c (tenant, event_key, event_id, source, fingerprint, receipt, body, received_at)
ON CONFLICT DO NOTHING
"""

_DEAD_LETTERS = """
INSERT INTO dead_letter_events (tenant, digest, reason, detail, event_count, envelope)
SELECT * FROM unnest($1::int[], $2::bytea[], $3::text[], $4::text[], $5::int[], $6::bytea[])
ON CONFLICT DO NOTHING
"""

EVENT_COLUMNS = (
    "tenant",
    "dimension_id",
    "price_id",
    "occurred_at",
    "received_at",
    "event_key",
    "event_id",
    "source",
    "user_id",
    "cost",
    "metrics",
    "metadata",
    "tags",
    "session_id",
    "request_id",
    "job_id",
    "run_id",
    "span_id",
    "parent_span_id",
    "section",
    "error_message",
    "service_version",
)
DELTA_COLUMNS = (
    "tenant",
    "dimension_id",
    "bucket_at",
    "metric_id",
    "value_count",
    "value_sum",
    "value_min",
    "value_max",
)
USER_DELTA_COLUMNS = (
    "tenant",
    "dimension_id",
    "bucket_at",
    "user_id",
    "event_count",
    "error_count",
    "unpriced_count",
    "quantity",
    "cost",
    "charge",
)


@dataclass(slots=True)
class Identities:
    """What tells events apart, as columns of the same length.

    Times are microseconds since the epoch: integers cross the driver several times faster than datetimes.
    """

    tenant: list[int] = field(default_factory=list)
    event_key: list[UUID] = field(default_factory=list)
    fingerprint: list[int] = field(default_factory=list)
    receipt: list[int] = field(default_factory=list)
    occurred_at: list[int] = field(default_factory=list)
    received_at: list[int] = field(default_factory=list)
    is_timestamped: list[bool] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An envelope set aside. `tenant` is None when not even that could be read."""

    tenant: int | None
    digest: bytes
    reason: str
    detail: str
    event_count: int
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Deltas:
    """The sums of the new events: rows for `rollup_deltas` and `user_rollup_deltas`."""

    rollup: Sequence[Row]
    user: Sequence[Row]


@dataclass(slots=True)
class Outcome:
    """What became of a batch. Events of an envelope that had been committed before are in none of the counts."""

    stored: int = 0
    duplicate: int = 0
    conflict: int = 0
    redelivered: int = 0
    new: Sequence[int] = ()


class EventStore:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._known_days: set[date] = set()

    async def ensure_partitions(self, days: set[date]) -> None:
        """Make room for events of these days (UTC). A no-op where the database does it by itself."""
        if missing := days - self._known_days:
            await self._pool.execute("SELECT ensure_event_partitions($1::date[])", sorted(missing))
            self._known_days |= missing

    def forget(self) -> None:
        """Drop what is remembered of the database: partitions may have been dropped meanwhile."""
        self._known_days.clear()

    async def store(
        self,
        identities: Identities,
        rows: Sequence[Row],
        *,
        describe: Callable[[int], tuple[str, str, str]],
        sum_up: Callable[[Sequence[int]], Deltas],
        dead_letters: Sequence[DeadLetter] = (),
    ) -> Outcome:
        """Commit the batch, or raise and leave the database as it was.

        `rows` are in EVENT_COLUMNS order; keys may repeat within the batch: the first wins. `describe(i)` gives
        (event_id, source, JSON body) of a conflicting event; `sum_up(indexes)` the deltas of the new ones.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            outcome = await self._store_identities(connection, identities, describe)
            new = outcome.new
            if new:
                fresh = rows if len(new) == len(rows) else [rows[i] for i in new]
                await connection.copy_records_to_table("usage_events", records=fresh, columns=EVENT_COLUMNS)
                deltas = sum_up(new)
                await connection.copy_records_to_table("rollup_deltas", records=deltas.rollup, columns=DELTA_COLUMNS)
                await connection.copy_records_to_table(
                    "user_rollup_deltas", records=deltas.user, columns=USER_DELTA_COLUMNS
                )
            if dead_letters:
                await connection.execute(
                    _DEAD_LETTERS, *_columns(sorted(dead_letters, key=lambda letter: letter.digest))
                )
        return outcome

    async def _store_identities(
        self, connection: Any, identities: Identities, describe: Callable[[int], tuple[str, str, str]]
    ) -> Outcome:
        total = len(identities.tenant)
        keys = list(zip(identities.tenant, identities.event_key, strict=True))
        first = dict(zip(reversed(keys), range(total - 1, -1, -1), strict=True))
        # every processor inserts in the same order, so two that share keys wait for each other instead of deadlocking
        order = [first[key] for key in sorted(first)]
        inserted = await connection.fetch(
            _INSERT_KEYS,
            *(
                [column[i] for i in order]
                for column in (
                    identities.tenant,
                    identities.event_key,
                    identities.fingerprint,
                    identities.receipt,
                    identities.occurred_at,
                    identities.received_at,
                    identities.is_timestamped,
                )
            ),
        )
        if len(inserted) == total:
            return Outcome(stored=total, new=range(total))
        new = sorted(first[row["tenant"], row["event_key"]] for row in inserted)
        return await self._classify(connection, identities, keys, new, describe)

    async def _classify(
        self,
        connection: Any,
        identities: Identities,
        keys: list[tuple[int, UUID]],
        new: list[int],
        describe: Callable[[int], tuple[str, str, str]],
    ) -> Outcome:
        """Tell duplicates, conflicts and redeliveries apart, and record the first two once per request."""
        is_new = set(new)
        others = [i for i in range(len(keys)) if i not in is_new]
        wanted = sorted({keys[i] for i in others})
        found = await connection.fetch(_STORED_KEYS, [key[0] for key in wanted], [key[1] for key in wanted])
        stored = {(row["tenant"], row["event_key"]): row for row in found}
        mine = {identities.receipt[i] for i in new}
        # a receipt that stored something in an earlier transaction: the whole request was committed then
        redelivered = {row["receipt"] for row in found} & {identities.receipt[i] for i in others} - mine

        outcome = Outcome(stored=len(new), new=new)
        counts: dict[tuple[int, int], list[int]] = {}
        conflicts: list[int] = []
        for i in others:
            receipt = identities.receipt[i]
            if receipt in redelivered:
                outcome.redelivered += 1
                continue
            row = stored[keys[i]]
            is_same = row["fingerprint"] == identities.fingerprint[i] and not (
                row["is_timestamped"]
                and identities.is_timestamped[i]
                and row["occurred_at"] != identities.occurred_at[i]
            )
            counts.setdefault((identities.tenant[i], receipt), [0, 0])[not is_same] += 1
            if not is_same:
                conflicts.append(i)
        if counts:
            # in one order, too: where two processors hold the same requests, the second waits here
            counts = dict(sorted(counts.items()))
            recorded = await connection.fetch(
                _OUTCOMES,
                [tenant for tenant, _ in counts],
                [receipt for _, receipt in counts],
                [duplicate for duplicate, _ in counts.values()],
                [conflict for _, conflict in counts.values()],
            )
            outcome.duplicate = sum(row["duplicate_count"] for row in recorded)
            outcome.conflict = sum(row["conflict_count"] for row in recorded)
            outcome.redelivered += len(others) - outcome.redelivered - outcome.duplicate - outcome.conflict
        if conflicts:
            descriptions = [describe(i) for i in conflicts]
            await connection.execute(
                _CONFLICTS,
                [identities.tenant[i] for i in conflicts],
                [identities.event_key[i] for i in conflicts],
                [event_id for event_id, _, _ in descriptions],
                [source for _, source, _ in descriptions],
                [identities.fingerprint[i] for i in conflicts],
                [identities.receipt[i] for i in conflicts],
                [body for _, _, body in descriptions],
                [identities.received_at[i] for i in conflicts],
            )
        return outcome


def _columns(letters: Sequence[DeadLetter]) -> tuple[list[Any], ...]:
    return (
        [letter.tenant for letter in letters],
        [letter.digest for letter in letters],
        [letter.reason for letter in letters],
        [letter.detail for letter in letters],
        [letter.event_count for letter in letters],
        [letter.envelope for letter in letters],
    )

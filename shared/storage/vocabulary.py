"""Ids for the words that events repeat: dimension sets, metric names, price bases. Cached, because they hardly change.

New ones are written in a transaction of their own before the batch that needs them: a set nobody uses does no harm, and
concurrent processors agree through the unique constraints.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import asyncpg

from shared.domain.rating import PriceBasis

# (tenant, service_type, service_provider, model, event_type, customer_id, job_type, status, currency)
DimensionKey = tuple[int, str, str, str, str, str, str, str, str]

_MAX_CACHED = 200_000

# What is there is looked up before the rest is added: a row refused by ON CONFLICT would use up an id all the same.
_DIMENSIONS = """
WITH wanted AS (
    SELECT DISTINCT * FROM unnest(
        $1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]
    ) AS w ({columns})
), present AS (
    SELECT d.id, w.* FROM dimension_sets d JOIN wanted w USING ({columns})
), added AS (
    INSERT INTO dimension_sets ({columns})
    SELECT {columns} FROM wanted EXCEPT SELECT {columns} FROM present ORDER BY {columns}
    ON CONFLICT DO NOTHING RETURNING id, {columns}
)
SELECT * FROM present UNION ALL SELECT * FROM added
""".replace(
    "{columns}", "tenant, service_type, service_provider, model, event_type, customer_id, job_type, status, currency"
)

_METRICS = """
WITH present AS (
    SELECT id, name FROM metrics WHERE name = ANY ($1)
), added AS (
    INSERT INTO metrics (name)
    SELECT name FROM unnest($1::text[]) AS w (name) EXCEPT SELECT name FROM present ORDER BY name
    ON CONFLICT DO NOTHING RETURNING id, name
)
SELECT * FROM present UNION ALL SELECT * FROM added
"""

_PRICES = """
WITH present AS (
    SELECT id, digest FROM applied_prices WHERE digest = ANY ($1)
), added AS (
    INSERT INTO applied_prices (digest, basis)
    SELECT * FROM unnest($1::bytea[], $2::jsonb[]) AS w (digest, basis)
    WHERE digest NOT IN (SELECT digest FROM present) ORDER BY digest
    ON CONFLICT DO NOTHING RETURNING id, digest
)
SELECT * FROM present UNION ALL SELECT * FROM added
"""


@dataclass(frozen=True, slots=True)
class Words:
    """The ids of words. It only ever grows: whoever holds one keeps every id that was learnt into it."""

    dimensions: dict[DimensionKey, int] = field(default_factory=dict)
    metrics: dict[str, int] = field(default_factory=dict)
    prices: dict[PriceBasis, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return max(len(self.dimensions), len(self.metrics), len(self.prices))


class Vocabulary:
    """What is known so far. Concurrent batches may share it: each works with the `Words` that `learn` gave it, so that
    none is left without an id when another makes the vocabulary forget.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._words = Words()

    async def learn(
        self,
        *,
        dimensions: Iterable[DimensionKey] = (),
        metrics: Iterable[str] = (),
        prices: Iterable[PriceBasis] = (),
    ) -> Words:
        """An id for every word asked for, among others."""
        if len(self._words) > _MAX_CACHED:
            self.forget()
        words = self._words
        await self._learn_dimensions(words.dimensions, list(dict.fromkeys(dimensions)))
        await self._learn_metrics(words.metrics, list(dict.fromkeys(metrics)))
        await self._learn_prices(words.prices, list(dict.fromkeys(prices)))
        return words

    def forget(self) -> None:
        """Start again with nothing: after a failure the ids may be those of a database that was replaced."""
        self._words = Words()

    async def _learn_dimensions(self, known: dict[DimensionKey, int], wanted: list[DimensionKey]) -> None:
        # a set committed by another processor while this statement ran is in neither half: the second pass sees it
        while missing := [key for key in wanted if key not in known]:
            rows = await self._pool.fetch(_DIMENSIONS, *(list(column) for column in zip(*missing, strict=True)))
            known.update({tuple(row)[1:]: row["id"] for row in rows})

    async def _learn_metrics(self, known: dict[str, int], wanted: list[str]) -> None:
        while missing := [name for name in wanted if name not in known]:
            rows = await self._pool.fetch(_METRICS, missing)
            known.update({row["name"]: row["id"] for row in rows})

    async def _learn_prices(self, known: dict[PriceBasis, int], wanted: list[PriceBasis]) -> None:
        while missing := [basis for basis in wanted if basis not in known]:
            texts = [basis.as_json() for basis in missing]
            digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
            ids = {row["digest"]: row["id"] for row in await self._pool.fetch(_PRICES, digests, texts)}
            known.update({basis: ids[digest] for basis, digest in zip(missing, digests, strict=True) if digest in ids})

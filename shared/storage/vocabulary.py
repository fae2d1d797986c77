"""Ids for the words that events repeat: dimension sets, metric names, price bases. Cached, because they hardly change.

New ones are written in a transaction of their own before the batch that needs them: a set nobody uses does no harm, and
concurrent processors agree through the unique constraints.
"""

import hashlib
from collections.abc import Iterable

import asyncpg

from shared.domain.rating import PriceBasis

# (tenant, service_type, service_provider, model, event_type, customer_id, job_type, status, currency)
DimensionKey = tuple[int, str, str, str, str, str, str, str, str]

_MAX_CACHED = 200_000

_DIMENSIONS = """
WITH wanted AS (
    SELECT DISTINCT * FROM unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
        AS w (tenant, service_type, service_provider, model, event_type, customer_id, job_type, status, currency)
), added AS (
    INSERT INTO dimension_sets (tenant, service_type, service_provider, model, event_type, customer_id, job_type, status, currency)
    SELECT * FROM wanted ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ON CONFLICT DO NOTHING RETURNING *
)
SELECT * FROM added
UNION ALL
SELECT d.* FROM dimension_sets d JOIN wanted USING (tenant, service_type, service_provider, model, event_type, customer_id, job_type, status, currency)
"""

_METRICS = """
WITH added AS (
    INSERT INTO metrics (name) SELECT DISTINCT name FROM unnest($1::text[]) AS w (name) ORDER BY name
    ON CONFLICT DO NOTHING RETURNING id, name
)
SELECT id, name FROM added UNION ALL SELECT id, name FROM metrics WHERE name = ANY ($1)
"""

_PRICES = """
WITH added AS (
    INSERT INTO applied_prices (digest, basis) SELECT * FROM unnest($1::bytea[], $2::jsonb[]) ORDER BY 1
    ON CONFLICT DO NOTHING RETURNING id, digest
)
SELECT id, digest FROM added UNION ALL SELECT id, digest FROM applied_prices WHERE digest = ANY ($1)
"""

class Vocabulary:
    """After `learn`, the three mappings hold an id for every word asked for."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.dimensions: dict[DimensionKey, int] = {}
        self.metrics: dict[str, int] = {}
        self.prices: dict[PriceBasis, int] = {}

    async def learn(
        self,
        *,
        dimensions: Iterable[DimensionKey] = (),
        metrics: Iterable[str] = (),
        prices: Iterable[PriceBasis] = (),
    ) -> None:
        if len(self.dimensions) > _MAX_CACHED or len(self.metrics) > _MAX_CACHED or len(self.prices) > _MAX_CACHED:
            self.forget()
        await self._learn_dimensions(list(dict.fromkeys(dimensions)))
        await self._learn_metrics(list(dict.fromkeys(metrics)))
        await self._learn_prices(list(dict.fromkeys(prices)))

    def forget(self) -> None:
        """Drop the caches: after a failure they may hold ids of a database that was replaced."""
        self.dimensions.clear()
        self.metrics.clear()
        self.prices.clear()

    async def _learn_dimensions(self, wanted: list[DimensionKey]) -> None:
        # a set committed by another processor while this statement ran is in neither half: the second pass sees it
        while missing := [key for key in wanted if key not in self.dimensions]:
            rows = await self._pool.fetch(_DIMENSIONS, *(list(column) for column in zip(*missing, strict=True)))
            self.dimensions.update({tuple(row)[1:]: row["id"] for row in rows})

    async def _learn_metrics(self, wanted: list[str]) -> None:
        while missing := [name for name in wanted if name not in self.metrics]:
            rows = await self._pool.fetch(_METRICS, missing)
            self.metrics.update({row["name"]: row["id"] for row in rows})

    async def _learn_prices(self, wanted: list[PriceBasis]) -> None:
        while missing := [basis for basis in wanted if basis not in self.prices]:
            texts = [basis.as_json() for basis in missing]
            digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
            ids = {row["digest"]: row["id"] for row in await self._pool.fetch(_PRICES, digests, texts)}
            self.prices.update(
                {basis: ids[digest] for basis, digest in zip(missing, digests, strict=True) if digest in ids}
            )

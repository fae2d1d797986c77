"""The scheduled jobs. Each may run in several instances at once: a lock in the database elects who does the work."""

import time
from datetime import UTC, datetime, timedelta

import structlog

from services.aggregation_service.settings import AggregationServiceSettings
from shared.observability import metrics
from shared.storage.rollups import RollupFolder
from shared.storage.upkeep import Upkeep

log = structlog.get_logger()


class FoldDeltas:
    """Moves into the rollups the deltas that wait; those that arrive meanwhile wait for the next time."""

    name = "fold_deltas"

    def __init__(self, folder: RollupFolder) -> None:
        self._folder = folder

    async def run(self) -> None:
        has_more = True
        while has_more:
            started = time.perf_counter()
            folded = await self._folder.fold()
            has_more = folded.has_more
            if folded.rows:
                seconds = time.perf_counter() - started
                metrics.FOLD_ROWS.inc(folded.rows)
                metrics.FOLD_SECONDS.observe(seconds)
                log.info("deltas_folded", row_count=folded.rows, seconds=round(seconds, 4))
        metrics.FOLD_LAG_SECONDS.set(await self._folder.lag_seconds())


class KeepBounds:
    """Makes partitions ahead of time and lets go of what is past its retention."""

    name = "keep_bounds"

    def __init__(self, upkeep: Upkeep, settings: AggregationServiceSettings) -> None:
        self._upkeep = upkeep
        self._settings = settings

    async def run(self) -> None:
        settings, now = self._settings, datetime.now(UTC)
        await self._upkeep.make_partitions(now=now, days_ahead=settings.partition_days_ahead)
        keys = await self._upkeep.delete_keys(received_before=now - timedelta(days=settings.deduplication_window_days))
        rollups = await self._upkeep.delete_rollups(older_than=now - timedelta(days=settings.rollup_retention_days))
        # last, because it gives up when long queries are in its way
        dropped = await self._upkeep.drop_events(older_than=now - timedelta(days=settings.event_retention_days))
        log.info("bounds_kept", dropped_partition_count=dropped, deleted_key_count=keys, deleted_rollup_count=rollups)

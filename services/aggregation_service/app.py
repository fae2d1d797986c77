"""The aggregation service as an application: APScheduler in the lifespan, beside health and metrics."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from fastapi import FastAPI

from services.aggregation_service.jobs import FoldDeltas, KeepBounds
from services.aggregation_service.settings import AggregationServiceSettings
from shared.observability.metrics import JOB_RUNS
from shared.storage.database import Database
from shared.storage.pool import create_pool
from shared.storage.rollups import RollupFolder
from shared.storage.upkeep import Upkeep
from shared.web.application import create_application
from shared.web.health import Health

log = structlog.get_logger()


def create_app(settings: AggregationServiceSettings) -> FastAPI:
    url = settings.database_url.get_secret_value()
    database = Database(url, pool_size=1)
    health = Health("aggregation_service", {"database": database.is_ready})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await create_pool(url, size=3)
        fold = FoldDeltas(RollupFolder(pool))
        bounds = KeepBounds(Upkeep(pool), settings)
        scheduler = AsyncIOScheduler(timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1})
        for job, seconds in ((bounds, settings.upkeep_interval_seconds), (fold, settings.fold_interval_seconds)):
            scheduler.add_job(
                _guarded(job.name, job.run),
                "interval",
                seconds=seconds,
                next_run_time=datetime.now(UTC),
                misfire_grace_time=None,
            )
        scheduler.start()
        try:
            yield
        finally:
            health.is_draining = True
            scheduler.shutdown(wait=False)
            await pool.close()
            await database.close()

    return create_application(title="Aggregation service", health=health, lifespan=lifespan, has_docs=False)


def _guarded(name: str, run: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """A job that fails is logged and counted, and runs again at its next time."""

    async def guarded() -> None:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - the schedule must survive any one failure
            JOB_RUNS.labels(name, "failed").inc()
            log.warning("scheduled_job_failed", job=name, reason=type(error).__name__, detail=str(error)[:200])
        else:
            JOB_RUNS.labels(name, "done").inc()

    return guarded

"""The processor as an application: its workers live in the lifespan, beside health and metrics."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.event_processor.settings import EventProcessorSettings
from services.event_processor.worker import Processor
from shared.catalogue.llm_prices import LlmPriceCatalogue
from shared.queue.connection import connect, is_reachable
from shared.queue.consumer import Consumer
from shared.storage.database import Database
from shared.storage.event_store import EventStore
from shared.storage.pool import create_pool
from shared.storage.registry import RegistryStore
from shared.storage.vocabulary import Vocabulary
from shared.web.application import create_application
from shared.web.health import Health


def create_app(settings: EventProcessorSettings) -> FastAPI:
    database = Database(settings.database_url.get_secret_value(), pool_size=settings.processor_workers)
    redis = connect(settings.redis_url.get_secret_value())
    health = Health("event_processor", {"database": database.is_ready, "redis": lambda: is_reachable(redis)})

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await create_pool(settings.database_url.get_secret_value(), size=settings.processor_workers + 1)
        processor = Processor(
            consumer=Consumer(redis, lease_seconds=settings.lease_seconds),
            store=EventStore(pool),
            vocabulary=Vocabulary(pool),
            registry_store=RegistryStore(database),
            catalogue=LlmPriceCatalogue(),
            settings=settings,
        )
        leases = asyncio.create_task(processor.keep_leases())
        workers = [asyncio.create_task(processor.run()) for _ in range(settings.processor_workers)]
        try:
            yield
        finally:
            health.is_draining = True
            processor.stop()
            await asyncio.gather(*workers, return_exceptions=True)
            leases.cancel()
            await asyncio.gather(leases, return_exceptions=True)
            await pool.close()
            await redis.aclose()
            await database.close()

    return create_application(title="Event processor", health=health, lifespan=lifespan, has_docs=False)

"""The gateway as an application: built by hand in one function."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from fastapi import FastAPI

from services.api_gateway.dependencies import Resources
from services.api_gateway.ingestion import EventIngestor
from services.api_gateway.registry_cache import RegistryCache
from services.api_gateway.routes import events, reads, services
from services.api_gateway.settings import ApiGatewaySettings
from shared.queue.connection import connect, is_reachable
from shared.queue.producer import Producer, QueueBounds
from shared.storage.api_keys import KeyStore
from shared.storage.database import Database
from shared.storage.registry import RegistryStore
from shared.web.application import create_application
from shared.web.authentication import Authenticator
from shared.web.health import Health


def create_app(settings: ApiGatewaySettings) -> FastAPI:
    database = Database(settings.database_url.get_secret_value(), pool_size=settings.database_pool_size)
    redis = connect(settings.redis_url.get_secret_value())
    keys = KeyStore(database)
    registry_store = RegistryStore(database)
    registry = RegistryCache(registry_store, interval_seconds=settings.registry_interval_seconds)
    producer = Producer(
        redis,
        bounds=QueueBounds(
            max_envelopes=settings.queue_max_envelopes, max_memory_bytes=settings.queue_max_memory_bytes
        ),
    )

    async def is_registry_loaded() -> bool:
        return registry.is_loaded

    # the database may be away while events are still taken: it makes /health degraded, not /readyz fail
    health = Health(
        "api_gateway",
        {"redis": lambda: is_reachable(redis), "registry": is_registry_loaded},
        informative={"database": database.is_ready},
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with (
            producer,
            httpx2.AsyncClient(base_url=settings.query_service_url, timeout=35.0) as query_service,
        ):
            app.state.resources = Resources(
                settings=settings,
                authenticator=Authenticator(
                    find_key=keys.find_key,
                    find_tenant=keys.find_tenant,
                    secret=settings.api_secret_key.get_secret_value(),
                    cache_seconds=settings.key_cache_seconds,
                    stale_seconds=settings.key_stale_seconds,
                ),
                ingestor=EventIngestor(
                    producer=producer,
                    registry=registry,
                    retention_days=settings.event_retention_days,
                    max_future_seconds=settings.max_future_seconds,
                    max_batch_size=settings.max_batch_size,
                ),
                registry=registry,
                registry_store=registry_store,
                query_service=query_service,
            )
            refresher = asyncio.create_task(registry.keep_fresh())
            try:
                yield
            finally:
                health.is_draining = True
                refresher.cancel()
                await asyncio.gather(refresher, return_exceptions=True)
        await redis.aclose()
        await database.close()

    app = create_application(title="Usage tracking API", health=health, lifespan=lifespan)
    for module in (events, services, reads):
        app.include_router(module.router)
    return app

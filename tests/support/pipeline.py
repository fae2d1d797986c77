"""The pipeline inside the test process: a gateway to send to, a processor to drain with, a folder to fold with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import redis.asyncio as redis

from services.api_gateway.app import create_app as create_gateway
from services.api_gateway.settings import ApiGatewaySettings
from services.event_processor.settings import EventProcessorSettings
from services.event_processor.worker import Processor
from shared.catalogue.llm_prices import LlmPriceCatalogue
from shared.queue.consumer import Consumer
from shared.queue.keys import CLAIMS, QUEUE
from shared.storage.database import Database
from shared.storage.event_store import EventStore
from shared.storage.registry import RegistryStore
from shared.storage.rollups import RollupFolder
from shared.storage.vocabulary import Vocabulary
from tests.conftest import SECRET

CATALOGUE = LlmPriceCatalogue()


@asynccontextmanager
async def gateway(database_url: str, redis_url: str, **settings: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a gateway that runs in this process."""
    app = create_gateway(
        ApiGatewaySettings(
            **{"key_cache_seconds": 0, **settings},
            database_url=database_url,
            redis_url=redis_url,
            api_secret_key=SECRET,
        )
    )
    async with app.router.lifespan_context(app):
        await app.state.resources.registry.refresh()
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client


def make_processor(
    client: "redis.Redis", pool: asyncpg.Pool, database: Database, *, lease_seconds: float = 30, **settings: Any
) -> Processor:
    return Processor(
        consumer=Consumer(client, lease_seconds=lease_seconds),
        store=EventStore(pool),
        vocabulary=Vocabulary(pool),
        registry_store=RegistryStore(database),
        catalogue=CATALOGUE,
        settings=EventProcessorSettings(
            database_url="postgresql://unused",
            api_secret_key=SECRET,
            batch_max_age_seconds=0,
            **settings,
        ),
    )


async def drain(client: "redis.Redis", processor: Processor, *, timeout_seconds: float = 20) -> None:
    """Run the processor until nothing waits and nothing is claimed."""
    task = asyncio.create_task(processor.run())
    try:
        async with asyncio.timeout(timeout_seconds):
            while await client.llen(QUEUE) or await client.zcard(CLAIMS):
                await asyncio.sleep(0.005)
    finally:
        processor.stop()
        await task


async def fold_all(pool: asyncpg.Pool) -> None:
    folder = RollupFolder(pool)
    while (await folder.fold()).rows:
        pass


def llm_event(event_id: str, **fields: Any) -> dict[str, Any]:
    """A valid event of a priced model: gpt-4, 150 tokens in and 75 out cost 0.009 USD."""
    return {
        "event_id": event_id,
        "user_id": "user-1",
        "service_type": "llm_service",
        "service_provider": "openai",
        "event_type": "completion",
        "metadata": {"model": "gpt-4"},
        "metrics": {"input_tokens": 150, "output_tokens": 75},
        **fields,
    }

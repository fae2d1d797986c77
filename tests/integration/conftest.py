"""What property tests over the stores share."""

import asyncio
from collections.abc import Iterator

import pytest
import redis.asyncio as redis
import structlog

from shared.storage.database import Database
from shared.storage.pool import create_pool
from tests.support.ledger import Bench
from tests.support.stores import Stores


@pytest.fixture(scope="module")
def bench(stores: Stores, database_url: str) -> Iterator[Bench]:
    """Pool and clients on a loop of their own, kept from one example to the next."""
    with asyncio.Runner() as runner:
        pool = runner.run(create_pool(database_url, size=8))
        database, client = Database(database_url), redis.Redis.from_url(stores.redis_url)
        yield Bench(runner, pool, database, client)
        runner.run(client.aclose())
        runner.run(database.close())
        runner.run(pool.close())


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    """What is expected to fail here would be told at length, and slowly."""
    with structlog.testing.capture_logs():
        yield

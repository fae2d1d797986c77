"""What the tests of the services start from."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from tests.conftest import MakeTenant
from tests.support.gateway import Front, open_front


@pytest.fixture
async def front(
    database_url: str, redis_url: str, redis_client: "redis.Redis", make_tenant: MakeTenant
) -> AsyncIterator[Front]:
    """A gateway, an empty queue, and a new tenant with a key for everything."""
    async with open_front(database_url, redis_url, redis_client, await make_tenant()) as opened:
        yield opened

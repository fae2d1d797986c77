"""Real stores for every test: one PostgreSQL or TimescaleDB and one Redis-protocol server a run, a tenant a test."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import asyncpg
import hypothesis
import pytest
import redis.asyncio as redis

from migrations.run import upgrade
from shared.domain.tenancy import TenantScope
from shared.security.api_keys import generate_api_key, hash_api_key
from shared.storage.database import Database, asyncpg_url
from shared.storage.pool import create_pool
from tests.support.stores import Stores, start_stores

SECRET = "a-secret-for-tests-only"

# how fast a shared machine is at the moment is no property of the code
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with start_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture(scope="session")
def make_database(stores: Stores) -> Iterator[Callable[[], str]]:
    """Makes an empty, migrated database and returns its URL; all are dropped at the end."""
    server = asyncpg_url(stores.database_url)
    made: list[str] = []

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(server)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def make() -> str:
        name = f"usage_test_{secrets.token_hex(6)}"
        asyncio.run(run(f"CREATE DATABASE {name}"))
        made.append(name)
        url = server.rsplit("/", 1)[0] + f"/{name}"
        upgrade(url)
        return url

    yield make
    for name in made:
        asyncio.run(run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def database_url(make_database: Callable[[], str]) -> str:
    """One migrated database for the run; tests keep apart by making their own tenants."""
    return make_database()


@pytest.fixture
def redis_url(stores: Stores) -> str:
    return stores.redis_url


@pytest.fixture
async def redis_client(redis_url: str) -> AsyncIterator["redis.Redis"]:
    """A client of an emptied server."""
    client = redis.Redis.from_url(redis_url)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    pool = await create_pool(database_url, size=5)
    yield pool
    await pool.close()


@dataclass(frozen=True)
class Tenant:
    """A tenant of one test, with a key."""

    scope: TenantScope
    key: str

    @property
    def tenant_id(self) -> str:
        return self.scope.tenant_id


MakeTenant = Callable[..., Awaitable[Tenant]]
DEFAULT_SCOPES = ("ingest", "read", "costs:read", "admin")


async def add_key(
    pool: asyncpg.Pool, *, tenant: int | None, scopes: list[str], customer_id: str | None = None, **columns: object
) -> str:
    """A new key of that tenant (None: an operator's); extra columns as the table names them."""
    key = generate_api_key("test")
    names = ["tenant", "key_hash", "prefix", "last_four", "name", "scopes", "customer_id", *columns]
    values = [
        tenant,
        hash_api_key(key, secret=SECRET),
        key[:12],
        key[-4:],
        "test",
        scopes,
        customer_id,
        *columns.values(),
    ]
    places = ", ".join(f"${i}" for i in range(1, len(names) + 1))
    await pool.execute(f"INSERT INTO api_keys ({', '.join(names)}) VALUES ({places})", *values)
    return key


@pytest.fixture
async def make_tenant(pool: asyncpg.Pool) -> MakeTenant:
    async def make(
        *, timezone: str = "UTC", scopes: tuple[str, ...] = DEFAULT_SCOPES, customer_id: str | None = None
    ) -> Tenant:
        tenant_id = f"tenant-{secrets.token_hex(6)}"
        number = await pool.fetchval(
            "INSERT INTO tenants (tenant_id, name, timezone) VALUES ($1, $1, $2) RETURNING number", tenant_id, timezone
        )
        key = await add_key(pool, tenant=number, scopes=list(scopes), customer_id=customer_id)
        return Tenant(TenantScope(number, tenant_id, timezone, customer_id), key)

    return make

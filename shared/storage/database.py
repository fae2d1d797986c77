"""How a process reaches the database, and which errors mean what."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.domain.errors import Unavailable

# the database is away, restarting, overloaded or out of space: the same work may succeed later
TRANSIENT_FAILURES: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.CannotConnectNowError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.PostgresSystemError,
)

# the schema, a permission or the server's role is not what this code expects, as during a deployment or a failover:
# nothing is wrong with the rows
SCHEMA_FAILURES: tuple[type[BaseException], ...] = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.FeatureNotSupportedError,
)

# these rows, not the database, are at fault: the same batch would fail for ever
DATA_FAILURES: tuple[type[BaseException], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeEncodeError,
)


# PoolTimeout: every connection is in use, and stayed so
_AWAY = (OperationalError, InterfaceError, PoolTimeout, OSError, TimeoutError)


class DatabaseUnavailable(Unavailable):
    """The database does not answer; nothing was changed: try again in a moment."""


def sqlalchemy_url(url: str) -> str:
    """`postgresql://…` and `postgresql+asyncpg://…` are both accepted; SQLAlchemy wants the second."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme="postgresql+asyncpg"))


def asyncpg_url(url: str) -> str:
    return urlunsplit(urlsplit(url)._replace(scheme="postgresql"))


class Database:
    """A pool of SQLAlchemy connections. Every `transaction()` is one transaction, committed at its end."""

    def __init__(self, url: str, *, pool_size: int = 5, statement_timeout_seconds: float = 30.0) -> None:
        self.engine: AsyncEngine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=10,
            pool_pre_ping=False,
            hide_parameters=True,  # an error's text goes to the log: never with the values
            connect_args={
                "timeout": 5,
                "server_settings": {
                    "statement_timeout": str(int(statement_timeout_seconds * 1000)),
                    "timezone": "UTC",
                    "jit": "off",
                    # a report's best plan depends on what is asked: one plan for all questions can be far slower
                    "plan_cache_mode": "force_custom_plan",
                },
            },
        )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Raises DatabaseUnavailable when the database is away; other database errors pass through."""
        try:
            async with self.engine.begin() as connection:
                yield connection
        except _AWAY as error:
            raise DatabaseUnavailable from error
        except DBAPIError as error:
            if error.connection_invalidated or isinstance(error.orig and error.orig.__cause__, TRANSIENT_FAILURES):
                raise DatabaseUnavailable from error
            raise

    async def is_ready(self) -> bool:
        """True when the database answers and holds the schema."""
        try:
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT value FROM change_counters LIMIT 1"))
        except (DBAPIError, *_AWAY):
            return False
        return True

    async def close(self) -> None:
        await self.engine.dispose()

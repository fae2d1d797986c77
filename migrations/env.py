"""Runs migrations over asyncpg, one transaction each; a lock timeout keeps a waiting one from blocking traffic."""

import asyncio

from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from shared.storage.tables import metadata


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        connection.execute(text("SET lock_timeout = '5s'"))
        # two deployments migrating at once: the second waits, then finds nothing to do
        connection.execute(text("SELECT pg_advisory_xact_lock(7361002)"))
        context.run_migrations()


async def _run() -> None:
    engine = create_async_engine(context.config.attributes["database_url"], poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(_run())

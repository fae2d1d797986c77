"""The asyncpg pool of the writing path: COPY and array parameters without a layer in between."""

import asyncpg

from shared.storage.database import asyncpg_url


async def create_pool(url: str, *, size: int, command_timeout_seconds: float = 60.0) -> asyncpg.Pool:
    """A pool that connects lazily: the process starts, and says that it is not ready, while the database is away."""
    return await asyncpg.create_pool(
        asyncpg_url(url),
        min_size=0,
        max_size=size,
        timeout=5,
        command_timeout=command_timeout_seconds,
        server_settings={"timezone": "UTC", "jit": "off", "lock_timeout": "20000"},
    )

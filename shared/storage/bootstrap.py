"""The first rows of a new installation: the operator's key and, where asked for, a demo tenant."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.security.api_keys import hash_api_key, is_well_formed
from shared.storage.database import Database
from shared.storage.tables import api_keys, tenants


class UnusableKey(ValueError):
    """Keys look like `ut_live_<random>_<checksum>`: make one with `usage keys generate`."""


async def ensure_bootstrap(
    database_url: str, *, secret: str, operator_key: str | None, demo: tuple[str, str] | None
) -> None:
    """Make the operator key (and `demo`, a tenant id and its key) known. Doing it again changes nothing."""
    database = Database(database_url, pool_size=1)
    try:
        async with database.transaction() as connection:
            if operator_key:
                await _ensure_key(
                    connection, operator_key, secret=secret, tenant=None, name="operator", scopes=["operator"]
                )
            if demo:
                tenant_id, key = demo
                number = await ensure_tenant(connection, tenant_id=tenant_id, name=tenant_id.title())
                scopes = ["ingest", "read", "costs:read", "admin"]
                await _ensure_key(connection, key, secret=secret, tenant=number, name="demo", scopes=scopes)
    finally:
        await database.close()


async def ensure_tenant(
    connection: AsyncConnection, *, tenant_id: str, name: str, timezone: str = "UTC", currency: str = "USD"
) -> int:
    """The tenant's row number; the tenant is made if it does not exist."""
    await connection.execute(
        insert(tenants)
        .values(tenant_id=tenant_id, name=name, timezone=timezone, currency=currency)
        .on_conflict_do_nothing(index_elements=["tenant_id"])
    )
    found = await connection.execute(select(tenants.c.number).where(tenants.c.tenant_id == tenant_id))
    return int(found.scalar_one())


async def _ensure_key(
    connection: AsyncConnection, key: str, *, secret: str, tenant: int | None, name: str, scopes: list[str]
) -> None:
    if not is_well_formed(key):
        raise UnusableKey(UnusableKey.__doc__)
    await connection.execute(
        insert(api_keys)
        .values(
            tenant=tenant,
            key_hash=hash_api_key(key, secret=secret),
            prefix=key.rsplit("_", 2)[0],
            last_four=key[-4:],
            name=name,
            scopes=scopes,
        )
        .on_conflict_do_nothing(index_elements=["key_hash"])
    )

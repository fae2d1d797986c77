"""API keys and tenants as authentication needs them."""

from datetime import datetime

from sqlalchemy import select

from shared.domain.tenancy import Principal, TenantScope
from shared.storage.database import Database
from shared.storage.tables import api_keys, tenants


class KeyStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def find_key(self, key_hash: bytes, now: datetime) -> Principal | None:
        """The principal of a working key; None when unknown, disabled, expired, or its tenant is suspended."""
        query = (
            select(api_keys, tenants.c.tenant_id, tenants.c.timezone, tenants.c.is_active)
            .outerjoin(tenants, tenants.c.number == api_keys.c.tenant)
            .where(api_keys.c.key_hash == key_hash)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None or not row.is_enabled or (row.expires_at is not None and row.expires_at <= now):
            return None
        if row.tenant is None:
            return Principal(key_id=row.id, tenant=None, scopes=frozenset(row.scopes))
        if not row.is_active:
            return None
        scope = TenantScope(
            number=row.tenant, tenant_id=row.tenant_id, timezone=row.timezone, customer_id=row.customer_id
        )
        return Principal(key_id=row.id, tenant=scope, scopes=frozenset(row.scopes))

    async def find_tenant(self, tenant_id: str) -> TenantScope | None:
        """An active tenant by its public id: for operator keys, which may name any."""
        query = select(tenants).where(tenants.c.tenant_id == tenant_id, tenants.c.is_active)
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else TenantScope(row.number, row.tenant_id, row.timezone)

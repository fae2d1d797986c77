"""Service types and rates: read whole, as a snapshot with a version that every change raises in its transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.domain.billing_config import RateTerms
from shared.domain.errors import Conflict
from shared.domain.rating import Component, Rate, RateBook
from shared.domain.service_types import SHIPPED, ServiceType
from shared.domain.tenancy import TenantScope
from shared.storage.database import Database
from shared.storage.tables import change_counters, rates, service_types

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Registry:
    """What is registered, at one version: the tenants' service types over the shipped ones, and their rates."""

    version: int
    service_types: Mapping[tuple[int, str], ServiceType] = field(default_factory=dict)
    rate_books: Mapping[int, RateBook] = field(default_factory=dict)

    def service_type(self, tenant: int, name: str) -> ServiceType | None:
        return self.service_types.get((tenant, name)) or SHIPPED.get(name)


@dataclass(frozen=True)
class Registration:
    """A service type as its tenant describes it."""

    service_type: str
    service_name: str
    description: str | None
    providers: Sequence[str]
    required_fields: Sequence[str]
    optional_fields: Sequence[str]
    validation_schema: Mapping[str, Any] | None
    billing_config: Mapping[str, Any] | None
    version: int = 1
    is_enabled: bool = True
    created_at: datetime | None = None


class RegistryStore:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self) -> int:
        async with self._database.transaction() as connection:
            return await _version(connection)

    async def load(self) -> Registry:
        """Everything of every tenant, in one snapshot: gateways and processors serve all of them."""
        async with self._database.transaction() as connection:
            await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            version = await _version(connection)
            newest = select(service_types).order_by(service_types.c.version)
            kinds = {(row.tenant, row.service_type): _service_type(row) for row in await connection.execute(newest)}
            by_tenant: dict[int, list[Rate]] = defaultdict(list)
            for row in await connection.execute(select(rates)):
                by_tenant[row.tenant].append(_rate(row))
        return Registry(version, kinds, {tenant: RateBook(found) for tenant, found in by_tenant.items()})

    async def register(
        self, scope: TenantScope, registration: Registration, terms: Sequence[RateTerms]
    ) -> Registration:
        """Add a service type and the rates of its billing config. Raises Conflict when there is one of that name."""
        async with self._database.transaction() as connection:
            await _raise_version(connection)
            taken = await connection.execute(
                select(func.count())
                .select_from(service_types)
                .where(
                    service_types.c.tenant == scope.number, service_types.c.service_type == registration.service_type
                )
            )
            if taken.scalar_one():
                raise Conflict(f"The service type `{registration.service_type}` exists already.")
            added = await connection.execute(
                insert(service_types)
                .values(
                    tenant=scope.number,
                    service_type=registration.service_type,
                    version=1,
                    service_name=registration.service_name,
                    description=registration.description,
                    providers=list(registration.providers),
                    required_fields=list(registration.required_fields),
                    optional_fields=list(registration.optional_fields),
                    validation_schema=registration.validation_schema,
                    billing_config=_with_text_amounts(registration.billing_config),
                )
                .returning(service_types)
            )
            if terms:
                await connection.execute(
                    insert(rates), [_rate_row(scope, registration.service_type, item) for item in terms]
                )
            return _registration(added.one())

    async def add_rates(self, scope: TenantScope, service_type: str, terms: Sequence[RateTerms]) -> None:
        """Rates for an existing or shipped service type, in force from the beginning, unless it has some already."""
        async with self._database.transaction() as connection:
            await _raise_version(connection)
            found = await connection.execute(
                select(func.count())
                .select_from(rates)
                .where(rates.c.tenant == scope.number, rates.c.service_type == service_type)
            )
            if not found.scalar_one():
                await connection.execute(insert(rates), [_rate_row(scope, service_type, item) for item in terms])

    async def list(self, scope: TenantScope) -> list[Registration]:
        """The tenant's own service types, newest version of each."""
        query = (
            select(service_types)
            .ext(distinct_on(service_types.c.service_type))
            .where(service_types.c.tenant == scope.number)
            .order_by(service_types.c.service_type, service_types.c.version.desc())
        )
        async with self._database.transaction() as connection:
            return [_registration(row) for row in await connection.execute(query)]


async def _raise_version(connection: AsyncConnection) -> None:
    """Tells every reader that something changed; also makes writers wait for each other."""
    await connection.execute(
        update(change_counters).where(change_counters.c.name == "registry").values(value=change_counters.c.value + 1)
    )


async def _version(connection: AsyncConnection) -> int:
    query = select(change_counters.c.value).where(change_counters.c.name == "registry")
    return int((await connection.execute(query)).scalar_one())


def _service_type(row: Row[Any]) -> ServiceType:
    unit = (row.billing_config or {}).get("unit")
    return ServiceType(
        service_type=row.service_type,
        version=row.version,
        required=tuple(row.required_fields),
        optional=tuple(row.optional_fields),
        loose=frozenset(row.required_fields) | frozenset(row.optional_fields),
        quantity=unit,
        providers=tuple(row.providers),
        schema=row.validation_schema,
        is_enabled=row.is_enabled,
    )


def _rate(row: Row[Any]) -> Rate:
    return Rate(
        rate_id=row.id,
        version=row.version,
        service_type=row.service_type,
        provider=row.provider,
        model=row.model,
        customer_id=row.customer_id,
        method=row.method,
        components=tuple(
            Component(metric=item["metric"], amount=Decimal(item["amount"]), per=Decimal(item["per"]))
            for item in row.components
        ),
        minimum=row.minimum,
        currency=row.currency,
        bills_failed=row.bills_failed,
        effective_from=row.effective_from,
        effective_until=row.effective_until,
    )


def _rate_row(scope: TenantScope, service_type: str, terms: RateTerms) -> dict[str, Any]:
    return {
        "tenant": scope.number,
        "version": 1,
        "service_type": service_type,
        "provider": terms.provider,
        "model": terms.model,
        "method": terms.method,
        "components": [
            {"metric": part.metric, "amount": str(part.amount), "per": str(part.per)} for part in terms.components
        ],
        "currency": terms.currency,
        "bills_failed": False,
        # a new service type has no older events: its first rates hold from the beginning
        "effective_from": BEGINNING,
    }


def _registration(row: Row[Any]) -> Registration:
    return Registration(
        service_type=row.service_type,
        service_name=row.service_name,
        description=row.description,
        providers=row.providers,
        required_fields=row.required_fields,
        optional_fields=row.optional_fields,
        validation_schema=row.validation_schema,
        billing_config=row.billing_config,
        version=row.version,
        is_enabled=row.is_enabled,
        created_at=row.created_at,
    )


def _with_text_amounts(config: Mapping[str, Any] | None) -> Any:
    """jsonb would hold a Decimal exactly, but its Python codec would not: amounts are kept as text."""
    return None if config is None else msgspec.to_builtins(dict(config))

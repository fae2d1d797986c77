"""What the routes work with: the parts built once, and who is asking."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request
from pydantic import SecretStr

from services.query_service.analytics import Analytics
from services.query_service.planner import Caller
from services.query_service.settings import QueryServiceSettings
from services.query_service.usage import UsageReports
from shared.domain.errors import Forbidden, InvalidRequest
from shared.storage.api_keys import KeyStore
from shared.storage.database import Database
from shared.storage.usage_queries import UsageQueries
from shared.web.authentication import Authenticator
from shared.web.health import Check


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Resources:
    authenticator: Authenticator
    reports: UsageReports
    analytics: Analytics
    databases: Mapping[str, Database]
    clock: Callable[[], datetime] = field(default=_utc_now)

    @classmethod
    def open(cls, settings: QueryServiceSettings, *, clock: Callable[[], datetime] = _utc_now) -> "Resources":
        """Connects lazily: the process starts, and says that it is not ready, while a database is away."""

        def connect(url: SecretStr) -> Database:
            return Database(
                url.get_secret_value(),
                pool_size=settings.database_pool_size,
                statement_timeout_seconds=settings.statement_timeout_seconds,
            )

        databases = {"database": connect(settings.database_url)}
        if settings.database_read_url is not None:
            databases["read_database"] = connect(settings.database_read_url)
        keys = KeyStore(databases["database"])
        authenticator = Authenticator(
            find_key=keys.find_key,
            find_tenant=keys.find_tenant,
            secret=settings.api_secret_key.get_secret_value(),
            cache_seconds=settings.key_cache_seconds,
            stale_seconds=settings.key_stale_seconds,
        )
        queries = UsageQueries(databases.get("read_database", databases["database"]))
        return cls(authenticator, UsageReports(queries), Analytics(queries), databases, clock)

    @property
    def checks(self) -> dict[str, Check]:
        return {name: database.is_ready for name, database in self.databases.items()}

    async def close(self) -> None:
        for database in self.databases.values():
            await database.close()


def resources_of(request: Request) -> Resources:
    resources: Resources = request.app.state.resources
    return resources


async def caller_of(request: Request) -> Caller:
    """Raises what authentication raises; Forbidden when a customer's key names another customer."""
    resources = resources_of(request)
    scope = await resources.authenticator.tenant(request, scope="read")
    principal = await resources.authenticator.principal(request.headers)
    stated = {
        value
        for value in (request.query_params.get("customer_id"), request.headers.get("x-customer-id") or None)
        if value is not None
    }
    if len(stated) > 1:
        raise InvalidRequest("customer_id and X-Customer-ID name two customers; send one of them.")
    if scope.customer_id is not None and stated - {scope.customer_id}:
        raise Forbidden("This key reads the usage of its own customer only; leave customer_id out.")
    return Caller(
        scope=scope,
        may_read_costs=principal.may("costs:read"),
        customer_id=next(iter(stated), None),
        now=resources.clock(),
    )


Parts = Annotated[Resources, Depends(resources_of)]
Asking = Annotated[Caller, Depends(caller_of)]

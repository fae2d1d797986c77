"""From a request's key to a Principal and the TenantScope it may act for.

Answers are kept for `cache_seconds`, so steady traffic costs no round trip and a disabled key stops working within that
time. While the database is away, known keys keep their last answer for `stale_seconds`: events are still taken.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.datastructures import Headers
from starlette.requests import Request

from shared.domain.errors import InvalidApiKey, MissingScope, NotFound, TenantMismatch, Unauthenticated, Unavailable
from shared.domain.tenancy import Principal, TenantScope
from shared.observability.metrics import KEY_LOOKUPS
from shared.security.api_keys import hash_api_key, is_well_formed

_MAX_CACHED = 10_000
_KNOWN_KEY_PATIENCE_SECONDS = 1.0  # a database that hangs must not hold up a sender whose key was good a moment ago

FindKey = Callable[[bytes, datetime], Awaitable[Principal | None]]
FindTenant = Callable[[str], Awaitable[TenantScope | None]]


@dataclass(slots=True)
class _Cached:
    principal: Principal | None
    loaded_at: float
    asked_at: float  # the last time storage was asked, even in vain


class Authenticator:
    """`find_key` looks a key's hash up in storage, `find_tenant` a tenant by its public id (for operator keys)."""

    def __init__(
        self,
        *,
        find_key: FindKey,
        find_tenant: FindTenant,
        secret: str,
        cache_seconds: float = 0.5,
        stale_seconds: float = 900.0,
    ) -> None:
        self._find_key = find_key
        self._find_tenant = find_tenant
        self._secret = secret
        self._cache_seconds = cache_seconds
        self._stale_seconds = stale_seconds
        self._cache: dict[str, _Cached] = {}
        self._loading: dict[str, asyncio.Future[Principal | None]] = {}

    async def principal(self, headers: Headers) -> Principal:
        """Raises Unauthenticated without a key, InvalidApiKey for one that does not work (any more)."""
        key = headers.get("x-api-key") or _bearer(headers.get("authorization", ""))
        if not key:
            raise Unauthenticated
        cached = self._cache.get(key)
        if cached is not None and time.monotonic() - cached.asked_at < self._cache_seconds:
            principal = cached.principal
        elif not is_well_formed(key):
            principal = None
        else:
            principal = await self._load_once(key, cached)
        if principal is None:
            KEY_LOOKUPS.labels("unknown").inc()
            raise InvalidApiKey
        return principal

    async def tenant(self, request: Request, *, scope: str) -> TenantScope:
        """The tenant this request acts for. Raises MissingScope, TenantMismatch, NotFound (no such tenant)."""
        principal = await self.principal(request.headers)
        if not principal.may(scope):
            raise MissingScope(f"This key lacks the scope `{scope}`.")
        stated = [
            value
            for value in (request.headers.get("x-tenant-id"), *request.query_params.getlist("tenant_id"))
            if value is not None
        ]
        if principal.tenant is not None:
            if any(value != principal.tenant.tenant_id for value in stated):
                raise TenantMismatch
            return principal.tenant
        if not stated or len(set(stated)) > 1:
            raise TenantMismatch("An operator key must name one tenant in `X-Tenant-ID` or `tenant_id`.")
        tenant = await self._find_tenant(stated[0]) if stated[0].isprintable() else None
        if tenant is None:
            raise NotFound(f"There is no tenant `{stated[0][:64]}`.")
        return tenant

    async def _load_once(self, key: str, cached: _Cached | None) -> Principal | None:
        """Concurrent requests with the same key share one lookup."""
        if loading := self._loading.get(key):
            return await asyncio.shield(loading)
        future: asyncio.Future[Principal | None] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting for it
        self._loading[key] = future
        try:
            principal = await self._load(key, cached)
        except BaseException as error:
            future.set_exception(error if isinstance(error, Exception) else Unavailable())
            raise
        else:
            future.set_result(principal)
            return principal
        finally:
            del self._loading[key]

    async def _load(self, key: str, cached: _Cached | None) -> Principal | None:
        now = time.monotonic()
        kept = cached if cached is not None and now - cached.loaded_at < self._stale_seconds else None
        lookup = asyncio.ensure_future(self._find_key(hash_api_key(key, secret=self._secret), datetime.now(UTC)))
        lookup.add_done_callback(lambda done: done.cancelled() or done.exception())
        # waited for and not cancelled: to cancel a query, the driver too would wait for the database
        await asyncio.wait({lookup}, timeout=None if kept is None else _KNOWN_KEY_PATIENCE_SECONDS)
        try:
            if not lookup.done():
                raise Unavailable
            principal = lookup.result()
        except Unavailable:
            if kept is None:
                raise
            KEY_LOOKUPS.labels("stale").inc()
            kept.asked_at = time.monotonic()
            return kept.principal
        KEY_LOOKUPS.labels("loaded").inc()
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[key] = _Cached(principal, loaded_at=now, asked_at=now)
        return principal


def _bearer(authorization: str) -> str:
    kind, _, token = authorization.partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""

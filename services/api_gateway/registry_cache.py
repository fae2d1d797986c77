"""The registry as the gateway sees it: reloaded when its version changes, kept while the database is away."""

import asyncio
from typing import Any

import structlog

from services.api_gateway.json_schema import FindErrors, compile_schema
from services.api_gateway.validation import Rejected
from shared.contracts import exact_json
from shared.contracts.envelope import Event
from shared.domain.errors import Unavailable
from shared.domain.service_types import ServiceType
from shared.storage.registry import Registry, RegistryStore

log = structlog.get_logger()


class RegistryCache:
    def __init__(self, store: RegistryStore, *, interval_seconds: float) -> None:
        self._store = store
        self._interval_seconds = interval_seconds
        self._registry = Registry(version=-1)
        self._schemas: dict[int, FindErrors] = {}  # by identity of the service type, which the registry keeps alive

    @property
    def is_loaded(self) -> bool:
        return self._registry.version >= 0

    def service_type(self, tenant: int, name: Any) -> ServiceType:
        """Raises Rejected for one that is not registered or is disabled."""
        if type(name) is not str or not name:
            raise Rejected("service_type", "missing_field", "is required, e.g. `llm_service`")
        kind = self._registry.service_type(tenant, name)
        if kind is None:
            raise Rejected(
                "service_type",
                "unknown_service_type",
                "is neither shipped nor registered; register it with POST /api/v1/services",
            )
        if not kind.is_enabled:
            raise Rejected("service_type", "service_type_disabled", "is disabled")
        return kind

    def check_schema(self, kind: ServiceType, event: Event) -> None:
        """Hold the event's fields against the JSON Schema its service type was registered with."""
        find_errors = self._schemas.get(id(kind))
        if find_errors is None:
            # through text, so that 0.1 in the schema is compared as 0.1
            find_errors = self._schemas[id(kind)] = compile_schema(exact_json.loads(exact_json.dumps(kind.schema)))
        fields: dict[str, Any] = exact_json.loads(event.metadata) if event.metadata else {}
        fields.update(event.metrics)
        if event.model:
            fields["model"] = event.model
        error = next(find_errors(fields), None)
        if error is not None:
            path = ".".join(str(part) for part in error.instance_path) or "event"
            raise Rejected(path, "schema_mismatch", error.message[:300])

    async def refresh(self) -> None:
        """Load what changed since the last time. Raises Unavailable when the database is away."""
        if self._registry.version < 0 or await self._store.version() != self._registry.version:
            self._registry, self._schemas = await self._store.load(), {}
            log.info("registry_loaded", version=self._registry.version)

    async def keep_fresh(self) -> None:
        while True:
            try:
                await self.refresh()
            except Unavailable as error:
                log.warning("registry_refresh_failed", reason=error.code)
            except Exception as error:  # the last registry stays in force, and the next round tries again
                log.error("registry_refresh_failed", exc_info=error)
            await asyncio.sleep(self._interval_seconds)

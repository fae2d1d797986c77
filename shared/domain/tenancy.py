"""Who is asking, and for which tenant: values that storage demands and only authentication makes."""

from dataclasses import dataclass, field

SCOPES = frozenset({"ingest", "read", "costs:read", "llm", "admin", "operator"})


@dataclass(frozen=True, slots=True)
class TenantScope:
    """Permission to touch the rows of one tenant, optionally narrowed to one customer of it.

    `number` is the tenant's row number in storage, `tenant_id` its public name, `timezone` an IANA zone.
    """

    number: int
    tenant_id: str
    timezone: str = "UTC"
    customer_id: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `tenant` is None for an operator key that is bound to no tenant."""

    key_id: int
    tenant: TenantScope | None
    scopes: frozenset[str] = field(default_factory=frozenset)

    def may(self, scope: str) -> bool:
        return scope in self.scopes or "operator" in self.scopes

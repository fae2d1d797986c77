"""Taking events in: every good event of a request becomes durable in one push, every bad one is told what is wrong."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from services.api_gateway.body import MalformedLine
from services.api_gateway.registry_cache import RegistryCache
from services.api_gateway.validation import Context, Rejected, canonical_event
from shared.contracts import exact_json
from shared.contracts.envelope import VERSION, Envelope, Event, encode
from shared.domain.errors import Forbidden, InvalidEvents, PayloadTooLarge, QueueFull, TenantMismatch, Unavailable
from shared.domain.tenancy import TenantScope
from shared.observability.metrics import EVENTS_ACCEPTED, EVENTS_REJECTED, INGEST_REFUSED
from shared.queue.producer import Producer

_DAY_MICROSECONDS = 86_400_000_000
_ECHOED_FAILURES = 100  # the first ones carry the event that was sent; the rest only their index and error


class CustomerMismatch(Forbidden):
    """The customer named in the request is not the customer of this key."""


# what is not malformed but not this key's to send; the answer when every event fails for it
_FORBIDDEN: Mapping[str, type[Forbidden]] = {"tenant_mismatch": TenantMismatch, "customer_mismatch": CustomerMismatch}


@dataclass(frozen=True, slots=True)
class Failure:
    """One event that was not taken. `event_data` is what was sent, as JSON, or None if it is not to be sent back."""

    index: int
    field: str
    code: str
    message: str
    event_data: Any

    def as_item(self) -> dict[str, Any]:
        return {"index": self.index, "field": self.field, "code": self.code, "message": self.message}

    def as_failed_event(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "error": f"{self.field}: {self.message}",
            "code": self.code,
            "field": self.field,
            "event_data": self.event_data,
        }


@dataclass(slots=True)
class Ingested:
    """The ids of the events now held durably, and what was wrong with the others."""

    event_ids: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class EventIngestor:
    def __init__(
        self,
        *,
        producer: Producer,
        registry: RegistryCache,
        retention_days: int,
        max_future_seconds: int,
        max_batch_size: int,
    ) -> None:
        self._producer = producer
        self._registry = registry
        self._retention = retention_days * _DAY_MICROSECONDS
        self._max_future = max_future_seconds * 1_000_000
        self._max_batch_size = max_batch_size

    async def ingest(
        self,
        items: Sequence[Any],
        scope: TenantScope,
        *,
        request_id: str,
        customer_id: str = "",
        idempotency_key: str | None = None,
        source: str = "",
    ) -> Ingested:
        """Return once every good event is durable.

        Raises PayloadTooLarge for too many events, InvalidEvents (or Forbidden) when none is good, QueueUnavailable or
        QueueFull when nothing could be made durable. With an idempotency key, events without an id get one derived
        from it, so that the whole request may be sent again.
        """
        if len(items) > self._max_batch_size:
            raise PayloadTooLarge(f"At least {len(items)} events in one request; send at most {self._max_batch_size}.")
        now = time.time_ns() // 1000
        context = Context(
            tenant_id=scope.tenant_id,
            customer_id=scope.customer_id,
            default_customer_id=customer_id,
            received_at=now,
            oldest=now - self._retention,
            newest=now + self._max_future,
            request_id=request_id,
            source=source,
        )
        events, failures = self._validate(items, scope, context, idempotency_key)
        for failure in failures:
            EVENTS_REJECTED.labels(failure.code).inc()
        if not events:
            raise _none_good(failures)
        envelope = Envelope(VERSION, scope.number, scope.tenant_id, secrets.randbits(63), now, request_id, events)
        try:
            await self._producer.push(encode(envelope))
        except Unavailable as error:
            INGEST_REFUSED.labels("queue_full" if isinstance(error, QueueFull) else "queue_unavailable").inc()
            raise
        EVENTS_ACCEPTED.inc(len(events))
        return Ingested([event.event_id for event in events], failures)

    def _validate(
        self, items: Sequence[Any], scope: TenantScope, context: Context, idempotency_key: str | None
    ) -> tuple[list[Event], list[Failure]]:
        events: list[Event] = []
        failures: list[Failure] = []
        tenant, tenant_id, service_type = scope.number, scope.tenant_id, self._registry.service_type
        make_id: Callable[[], str] = make_event_id
        for index, item in enumerate(items):
            try:
                if type(item) is not dict:
                    raise _not_an_object(item)
                stated = item.get("tenant_id")
                if stated is not None and stated != tenant_id:
                    raise Rejected("tenant_id", "tenant_mismatch", "is not the tenant of this key; leave it out")
                kind = service_type(tenant, item.get("service_type"))
                if idempotency_key is not None:
                    make_id = partial(_derived_id, scope, idempotency_key, index)
                event = canonical_event(item, context, kind=kind, make_id=make_id)
                if kind.schema is not None:
                    self._registry.check_schema(kind, event)
            except Rejected as error:
                sent = _echo(item) if len(failures) < _ECHOED_FAILURES else None
                failures.append(Failure(index, error.field, error.code, error.message, sent))
            else:
                events.append(event)
        return events, failures


def _none_good(failures: Sequence[Failure]) -> InvalidEvents | Forbidden:
    items = [failure.as_item() for failure in failures]
    if not items:
        return InvalidEvents("The request holds no events.")
    first = failures[0]
    detail = f"{first.field}: {first.message}."
    if len(failures) > 1:
        detail = f"None of the {len(failures)} events could be accepted; the first: {detail}"
    codes = {failure.code for failure in failures}
    kind = _FORBIDDEN.get(codes.pop(), InvalidEvents) if len(codes) == 1 else InvalidEvents
    return kind(detail, errors=items)


def _not_an_object(item: Any) -> Rejected:
    if isinstance(item, MalformedLine):
        return Rejected("event", "malformed_json", f"is not valid JSON: {item.detail}")
    return Rejected("event", "wrong_type", "must be a JSON object")


def _echo(item: Any) -> msgspec.Raw | None:
    if isinstance(item, MalformedLine):
        return None
    try:
        return msgspec.Raw(exact_json.dumps(item))
    except (ValueError, RecursionError):  # it holds what JSON cannot: a NaN, a lone surrogate, nesting without end
        return None


def _derived_id(scope: TenantScope, idempotency_key: str, index: int) -> str:
    return str(uuid5(NAMESPACE_URL, f"usage:{scope.number}:{index}:{idempotency_key}"))


def make_event_id() -> str:
    """A UUIDv7: 48 bits of milliseconds, then randomness, so that neighbours in time are neighbours in the index."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

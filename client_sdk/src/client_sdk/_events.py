"""What a usage event is: its fields, the checks made where it is tracked, and its bytes."""

import math
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from numbers import Integral
from typing import Any, Literal, TypedDict
from uuid import UUID

from client_sdk._json import write_instant, write_json
from client_sdk.exceptions import ValidationError

Quantity = int | float | Decimal


class EventFields(TypedDict, total=False):
    """What any event may carry, whatever its service type."""

    customer_id: str | None
    session_id: str | None
    request_id: str | None
    job_id: str | None
    run_id: str | None
    span_id: str | None
    parent_span_id: str | None
    section: str | None
    event_id: str | UUID | None
    timestamp: datetime | None
    metadata: Mapping[str, object] | None
    metrics: Mapping[str, Quantity] | None
    tags: Sequence[str] | None
    status: Literal["success", "failed"] | None
    error_message: str | None


def encode_event(
    *,
    user_id: str,
    service_type: str,
    service_provider: str | None,
    event_type: str,
    texts: Mapping[str, object],
    quantities: Mapping[str, Quantity | None],
    customer_id: str | None = None,
    session_id: str | None = None,
    request_id: str | None = None,
    job_id: str | None = None,
    run_id: str | None = None,
    span_id: str | None = None,
    parent_span_id: str | None = None,
    section: str | None = None,
    event_id: str | UUID | None = None,
    timestamp: datetime | None = None,
    metadata: Mapping[str, object] | None = None,
    metrics: Mapping[str, Quantity] | None = None,
    tags: Sequence[str] | None = None,
    status: str | None = None,
    error_message: str | None = None,
) -> tuple[str, bytes]:
    """The event's id and its JSON. `texts` and `quantities` are the service type's own fields, the rest is anyone's."""
    identity = new_event_id() if event_id is None else str(event_id)
    event: dict[str, object] = {
        "event_id": required_text(identity, "event_id"),
        "timestamp": write_instant(datetime.now(UTC) if timestamp is None else timestamp, "timestamp"),
        "user_id": required_text(user_id, "user_id"),
        "service_type": required_text(service_type, "service_type"),
        "event_type": required_text(event_type, "event_type"),
    }
    for name, value in (
        ("service_provider", service_provider),
        ("customer_id", customer_id),
        ("session_id", session_id),
        ("request_id", request_id),
        ("job_id", job_id),
        ("run_id", run_id),
        ("span_id", span_id),
        ("parent_span_id", parent_span_id),
        ("section", section),
        ("error_message", error_message),
    ):
        if value is not None:
            event[name] = required_text(value, name)
    if status is not None:
        if status not in ("success", "failed"):
            raise ValidationError(f"status must be 'success' or 'failed', not {status!r}")
        event["status"] = status
    if tags:
        event["tags"] = _tags(tags)
    if joined := _join("metadata", texts, metadata):
        event["metadata"] = joined
    for name, amount in quantities.items():
        if amount is not None and _number(amount, name) < 0:
            raise ValidationError(f"{name} must not be negative")
    for name, amount in (metrics or {}).items():
        _number(amount, f"metrics.{name}")
    if joined := _join("metrics", quantities, metrics):
        event["metrics"] = joined
    return identity, write_json(event)


def new_event_id() -> str:
    """A UUIDv7 (RFC 9562): a millisecond and 74 random bits, so that ids sort by age and the server's index stays warm.

    Randomness comes from the kernel: a process's own generator would repeat itself after a fork.
    """
    milliseconds = time.time_ns() // 1_000_000
    number = int.from_bytes(milliseconds.to_bytes(6) + os.urandom(10))
    number = number & ~(0xF << 76) | 0x7 << 76  # version
    number = number & ~(0x3 << 62) | 0x2 << 62  # variant
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def required_text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValidationError(f"{name} must be text and not empty")
    return value


def _number(value: object, name: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | Integral):
        raise ValidationError(f"{name} must be a number, not {type(value).__name__}")
    if not (value.is_finite() if isinstance(value, Decimal) else math.isfinite(value)):
        raise ValidationError(f"{name} must be a finite number")
    return value


def _tags(tags: Sequence[str]) -> list[str]:
    if isinstance(tags, str):  # a str is a sequence of str, and never what was meant
        raise ValidationError("tags must be a list of texts")
    return [required_text(tag, "tags") for tag in tags]


def _join(name: str, own: Mapping[str, object], extra: Mapping[str, object] | None) -> dict[str, object]:
    if extra is not None and not isinstance(extra, Mapping):
        raise ValidationError(f"{name} must be a mapping")
    joined = {key: value for key, value in own.items() if value is not None}
    for key, value in (extra or {}).items():
        if joined.setdefault(key, value) != value:
            raise ValidationError(f"{key} was given twice: as an argument and, differently, in {name}")
    return joined

"""From what a sender wrote to a canonical event, or to what is wrong with it and how to mend it.

The hot path of the gateway: plain checks on plain dicts, no objects but the result. Typed fields may stand at top level,
in `metadata` or in `metrics`; numbers end up in `metrics`, everything else in `metadata`, `model` beside them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec

from shared.contracts.envelope import Event, Quantity
from shared.domain.identity import fingerprint
from shared.domain.money import EXACT
from shared.domain.service_types import ServiceType

MAX_ID_CHARACTERS: Final = 128
MAX_TEXT_CHARACTERS: Final = 2_000
MAX_METRICS: Final = 64
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_METADATA_DEPTH: Final = 8
MAX_TAGS: Final = 32
MAX_QUANTITY: Final = 10**18
MAX_FRACTION_DIGITS: Final = 18
_MAX_DIGITS: Final = 60
STATUSES: Final = ("success", "failed")

_IDS = ("event_id", "user_id", "session_id", "request_id", "job_id", "run_id", "span_id", "parent_span_id")
_WORDS = ("service_type", "service_provider", "event_type", "customer_id", "team_id", "job_type", "section", "model")
_KNOWN = frozenset(
    (*_IDS, *_WORDS, "timestamp", "tenant_id", "metadata", "metrics", "tags", "status", "error_message", "source")
)
_METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}\Z")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS = (int, Decimal)

_encode = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


class Rejected(Exception):
    """One event cannot be accepted: which field, a stable code, and a sentence that says what to do."""

    def __init__(self, field: str, code: str, message: str) -> None:
        self.field = field
        self.code = code
        self.message = message
        super().__init__(f"{field}: {message}")


@dataclass(frozen=True, slots=True)
class Context:
    """What is the same for all events of a request. Times are microseconds since the epoch."""

    tenant_id: str
    customer_id: str | None  # the key's own customer: an event may name no other
    default_customer_id: str  # from X-Customer-ID
    received_at: int
    oldest: int
    newest: int
    request_id: str
    source: str = ""


def canonical_event(
    item: Mapping[str, Any], context: Context, *, kind: ServiceType, make_id: Callable[[], str]
) -> Event:
    """Raises Rejected for the first thing that is wrong. `make_id` gives the id of an event that was sent without one."""
    for name in _IDS:
        if name in item:
            _check_text(item, name, MAX_ID_CHARACTERS)
    for name in _WORDS:
        if name in item:
            _check_text(item, name, MAX_ID_CHARACTERS)
    user_id = item.get("user_id")
    if not user_id:
        raise Rejected("user_id", "missing_field", "is required: the user who caused the usage")

    metrics: dict[str, Quantity] = {}
    metadata: dict[str, Any] = {}
    if sent := item.get("metrics"):
        if type(sent) is not dict:
            raise Rejected("metrics", "wrong_type", "must be an object of numbers")
        for name, value in sent.items():
            metrics[name] = _quantity(f"metrics.{name}", value)
    typed, loose = kind.metrics, kind.loose
    if sent := item.get("metadata"):
        if type(sent) is not dict:
            raise Rejected("metadata", "wrong_type", "must be an object")
        for name, value in sent.items():
            if name in typed or (name in loose and type(value) in _NUMBERS):
                metrics[name] = _quantity(f"metadata.{name}", value)
            else:
                metadata[name] = value
    for name in item.keys() - _KNOWN:
        value = item[name]
        if value is None:
            continue
        if name in typed or (name in loose and type(value) in _NUMBERS):
            metrics[name] = _quantity(name, value)
        elif name in kind.fields:
            metadata[name] = value
        else:
            raise Rejected(name, "unknown_field", "is not a field of this service type; put it into `metadata` or `metrics`")

    model = metadata.pop("model", None)
    model = item.get("model") or model or ""
    _check_kind(kind, metrics, metadata, model)
    for name in metrics:
        if not _METRIC_NAME.match(name):
            raise Rejected(f"metrics.{name}"[:100], "invalid_metric_name", "must be a letter, then at most 63 letters, digits, _ . : -")
    if len(metrics) > MAX_METRICS:
        raise Rejected("metrics", "too_many_metrics", f"holds {len(metrics)}; at most {MAX_METRICS}")

    status = item.get("status") or "success"
    if status not in STATUSES:
        raise Rejected("status", "invalid_status", "must be `success` or `failed`")
    error_message = item.get("error_message")
    if error_message is not None:
        _check_text(item, "error_message", MAX_TEXT_CHARACTERS)
    customer_id = item.get("customer_id") or item.get("team_id") or context.default_customer_id
    if context.customer_id is not None:
        if customer_id and customer_id != context.customer_id:
            raise Rejected("customer_id", "customer_mismatch", "is not the customer this key belongs to")
        customer_id = context.customer_id

    occurred_at = context.received_at
    stated = item.get("timestamp")
    if stated is not None:
        occurred_at = _instant(stated, context)
    tags = item.get("tags") or []
    if tags:
        _check_tags(tags)
    metadata_text = _metadata_text(metadata) if metadata else ""
    service_provider = item.get("service_provider") or ""
    event_type = item.get("event_type") or "usage"
    session_id, job_id, run_id = item.get("session_id"), item.get("job_id"), item.get("run_id")
    span_id, parent_span_id, section = item.get("span_id"), item.get("parent_span_id"), item.get("section")
    request_id, job_type = item.get("request_id"), item.get("job_type") or ""
    body = _encode(
        (
            kind.service_type,
            service_provider,
            event_type,
            user_id,
            customer_id,
            status,
            model,
            metrics,
            metadata_text,
            tags,
            session_id,
            request_id,
            job_id,
            job_type,
            run_id,
            span_id,
            parent_span_id,
            section,
            error_message,
        )
    )
    return Event(
        item.get("event_id") or make_id(),
        context.source or _source(item),
        occurred_at,
        stated is not None,
        fingerprint(body),
        kind.service_type,
        kind.version,
        service_provider,
        event_type,
        user_id,
        customer_id,
        status,
        model,
        metrics,
        metadata_text,
        tags,
        session_id,
        request_id or context.request_id,
        job_id,
        job_type,
        run_id,
        span_id,
        parent_span_id,
        section,
        error_message,
    )


def _check_kind(kind: ServiceType, metrics: dict[str, Quantity], metadata: dict[str, Any], model: Any) -> None:
    """Required fields are there and of their type; absent quantities get their defaults."""
    if type(model) is not str:
        raise Rejected("model", "wrong_type", "must be text")
    if len(model) > MAX_ID_CHARACTERS:
        raise Rejected("model", "too_long", f"has {len(model)} characters; at most {MAX_ID_CHARACTERS}")
    for name in kind.required:
        if name == "model":
            if not model:
                raise Rejected("model", "missing_field", f"is required for {kind.service_type}")
        elif name not in metrics and metadata.get(name) in (None, ""):
            raise Rejected(name, "missing_field", f"is required for {kind.service_type}")
        elif name not in metrics and name in kind.metrics:
            raise Rejected(name, "wrong_type", "must be a number")
        elif name in metadata and name not in kind.loose and type(metadata[name]) is not str:
            raise Rejected(name, "wrong_type", "must be text")
    for name in kind.positive:
        if metrics[name] <= 0:
            raise Rejected(name, "not_positive", "must be above 0")
    for name, value in kind.defaults.items():
        metrics.setdefault(name, value)


def _check_text(item: Mapping[str, Any], name: str, most: int) -> None:
    value = item[name]
    if value is None:
        return
    if type(value) is not str:
        raise Rejected(name, "wrong_type", "must be text")
    if len(value) > most:
        raise Rejected(name, "too_long", f"has {len(value)} characters; at most {most}")
    if not value.isascii() or "\x00" in value:
        _check_storable(name, value)


def _check_storable(name: str, value: str) -> None:
    if _UNSTORABLE.search(value):
        raise Rejected(name, "invalid_text", "holds a NUL or a lone surrogate, which text may not; remove it")


def _quantity(field: str, value: Any) -> Quantity:
    """A finite non-negative number within bounds, as int when it is whole."""
    kind = type(value)
    if kind is int:
        if 0 <= value <= MAX_QUANTITY:
            return value  # type: ignore[no-any-return]
    elif kind is Decimal:
        _, digits, exponent = value.as_tuple()
        if len(digits) > _MAX_DIGITS or exponent < -_MAX_DIGITS:
            raise Rejected(field, "too_precise", f"has more than {MAX_FRACTION_DIGITS} decimal places")
        if 0 <= value <= MAX_QUANTITY:
            value = EXACT.normalize(value)
            if value.as_tuple().exponent >= 0:
                return int(value)
            if value.as_tuple().exponent < -MAX_FRACTION_DIGITS:
                raise Rejected(field, "too_precise", f"has more than {MAX_FRACTION_DIGITS} decimal places")
            return value  # type: ignore[no-any-return]
    else:
        raise Rejected(field, "wrong_type", "must be a number")
    if value < 0:
        raise Rejected(field, "negative_quantity", "must not be negative; corrections are made with a new event id")
    raise Rejected(field, "quantity_too_large", f"must be at most {MAX_QUANTITY}")


def _instant(stated: Any, context: Context) -> int:
    """Microseconds since the epoch of an RFC 3339 instant that is neither too old nor ahead of the clock."""
    try:
        moment = datetime.fromisoformat(stated)
    except (TypeError, ValueError):
        raise Rejected(
            "timestamp", "invalid_timestamp", "must be an RFC 3339 instant, e.g. 2026-01-31T09:30:00Z"
        ) from None
    if moment.tzinfo is None:
        raise Rejected("timestamp", "no_time_zone", "must say its time zone: add `Z` or an offset such as +05:30")
    at = (moment - _EPOCH) // _MICROSECOND
    if at > context.newest:
        raise Rejected("timestamp", "in_the_future", "is ahead of the server's clock; check yours")
    if at < context.oldest:
        raise Rejected("timestamp", "too_old", "is older than events are kept (EVENT_RETENTION_DAYS)")
    return at


def _check_tags(tags: Any) -> None:
    if type(tags) is not list or any(type(tag) is not str for tag in tags):
        raise Rejected("tags", "wrong_type", "must be a list of texts")
    if len(tags) > MAX_TAGS:
        raise Rejected("tags", "too_many_tags", f"holds {len(tags)}; at most {MAX_TAGS}")
    for tag in tags:
        if len(tag) > MAX_ID_CHARACTERS:
            raise Rejected("tags", "too_long", f"a tag has {len(tag)} characters; at most {MAX_ID_CHARACTERS}")
        _check_storable("tags", tag)


def _metadata_text(metadata: dict[str, Any]) -> str:
    for name, value in metadata.items():
        _check_storable("metadata", name)
        _check_value(f"metadata.{name}", value, MAX_METADATA_DEPTH)
    text = _encode(metadata)
    if len(text) > MAX_METADATA_BYTES:
        raise Rejected("metadata", "too_large", f"takes {len(text)} bytes; at most {MAX_METADATA_BYTES}")
    return text.decode()


def _check_value(field: str, value: Any, depth: int) -> None:
    """What JSON allows but the database cannot hold: NULs, lone surrogates, numbers beyond reason, bottomless nesting."""
    kind = type(value)
    if kind is str:
        if not value.isascii() or "\x00" in value:
            _check_storable(field, value)
    elif kind is int:
        if not -(10**30) < value < 10**30:
            raise Rejected(field, "number_too_large", "must be below 10^30; send it as text")
    elif kind is Decimal:
        exponent = value.as_tuple().exponent
        if not -60 < exponent < 30 or len(value.as_tuple().digits) > 60:
            raise Rejected(field, "number_too_large", "has too many digits or too large an exponent; send it as text")
    elif kind is dict or kind is list:
        if depth <= 1:
            raise Rejected(field, "too_deep", f"is nested more than {MAX_METADATA_DEPTH} levels deep; flatten it")
        if kind is dict:
            for name, inner in value.items():
                _check_storable(field, name)
                _check_value(field, inner, depth - 1)
        else:
            for inner in value:
                _check_value(field, inner, depth - 1)


def _source(item: Mapping[str, Any]) -> str:
    source = item.get("source")
    if source is None:
        return ""
    _check_text(item, "source", MAX_ID_CHARACTERS)
    return str(source)

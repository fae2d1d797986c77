"""From what a sender wrote to a canonical event, or to what is wrong with it and how to mend it.

The hot path of the gateway: plain checks on plain dicts, no objects but the result. Typed fields may stand at top
level, in `metadata` or in `metrics`; quantities end up in `metrics`, all else in `metadata`, `model` beside them.
"""

import re
from collections.abc import Callable, Iterable, Mapping
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

_TEXTS = frozenset(
    """
    event_id user_id session_id request_id job_id run_id span_id parent_span_id source
    service_type service_provider event_type customer_id team_id job_type section model
    """.split()  # noqa: SIM905 - sixteen quoted strings would be harder to read
)
_CHECKED_APART = frozenset({"metrics", "metadata", "timestamp", "tenant_id", "tags", "status", "error_message"})
_METRIC_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}\Z")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBERS = (int, Decimal)

_encode = msgspec.json.Encoder(decimal_format="number", order="deterministic").encode


class Rejected(Exception):
    """One event cannot be accepted: which field, a stable code, and a sentence that says what to do."""

    def __init__(self, field: str, code: str, message: str) -> None:
        # what the sender called it, kept short and in characters that an answer can hold
        self.field = field[:100].encode("utf-8", "backslashreplace").decode()
        self.code = code
        self.message = message
        super().__init__(f"{self.field}: {message}")


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
    """Raises Rejected for the first thing that is wrong. `make_id` gives the id of an event sent without one."""
    metrics: dict[str, Quantity] = {}
    metadata: dict[str, Any] = {}
    typed, loose, attributes, fields = kind.metrics, kind.loose, kind.attributes, kind.fields
    for name, value in _members("metrics", item["metrics"]) if "metrics" in item else ():
        if name in attributes or (name in loose and type(value) not in _NUMBERS):
            if value is not None:
                metadata[name] = value
        elif type(value) is int and 0 <= value <= MAX_QUANTITY:
            metrics[name] = value
        elif value is not None or name not in fields:
            metrics[name] = _quantity(f"metrics.{name}", value)
    for name, value in _members("metadata", item["metadata"]) if "metadata" in item else ():
        if name not in fields:
            metadata[name] = value
        elif value is None:
            continue
        elif name in typed or (name in loose and type(value) in _NUMBERS):
            quantity = _quantity(f"metadata.{name}", value)
            if metrics.setdefault(name, quantity) != quantity:
                raise _contradiction(name)
        elif metadata.setdefault(name, value) != value:
            raise _contradiction(name)
    for name, value in item.items():
        if name in _TEXTS:
            if type(value) is not str or len(value) > MAX_ID_CHARACTERS or not value.isascii() or "\x00" in value:
                _check_text(name, value, MAX_ID_CHARACTERS)
        elif name in _CHECKED_APART or value is None:
            continue
        elif name in typed or (name in loose and type(value) in _NUMBERS):
            quantity = value if type(value) is int and 0 <= value <= MAX_QUANTITY else _quantity(name, value)
            if metrics.setdefault(name, quantity) != quantity:
                raise _contradiction(name)
        elif name not in fields:
            raise Rejected(
                name, "unknown_field", "is not a field of this service type; put it into `metadata` or `metrics`"
            )
        elif metadata.setdefault(name, value) != value:
            raise _contradiction(name)

    user_id = item.get("user_id")
    if not user_id:
        raise Rejected("user_id", "missing_field", "is required: the user who caused the usage")
    model = item.get("model") or ""
    if "model" in metadata:
        model = _model(model, metadata.pop("model"))
    _check_kind(kind, item, metrics, metadata, model)
    for name in metrics:
        if name not in typed and not _METRIC_NAME.match(name):
            raise Rejected(
                f"metrics.{name}", "invalid_metric_name", "must be a letter, then at most 63 letters, digits, _ . : -"
            )
    if len(metrics) > MAX_METRICS:
        raise Rejected("metrics", "too_many_metrics", f"holds {len(metrics)}; at most {MAX_METRICS}")

    status = item.get("status")
    if status is None:
        status = "success"
    elif status not in STATUSES:
        raise Rejected("status", "invalid_status", "must be `success` or `failed`")
    error_message = item.get("error_message")
    if error_message is not None:
        _check_text("error_message", error_message, MAX_TEXT_CHARACTERS)
    customer_id = item.get("customer_id") or item.get("team_id") or context.default_customer_id
    if context.customer_id is not None:
        if customer_id and customer_id != context.customer_id:
            raise Rejected("customer_id", "customer_mismatch", "is not the customer this key belongs to")
        customer_id = context.customer_id

    occurred_at = context.received_at
    stated = item.get("timestamp")
    if stated is not None:
        occurred_at = _instant(stated, context)
    tags = item.get("tags")
    if tags is None:
        tags = []
    else:
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
        context.source or item.get("source") or "",
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


def _contradiction(name: str) -> Rejected:
    return Rejected(name, "contradiction", "is stated twice with different values; send it once")


def _model(stated: str, nested: Any) -> str:
    """The model named at top level, in `metadata`, or in both if they agree."""
    _check_text("model", nested, MAX_ID_CHARACTERS)
    if stated and nested and nested != stated:
        raise _contradiction("model")
    return stated or nested or ""


def _check_kind(
    kind: ServiceType, item: Mapping[str, Any], metrics: dict[str, Quantity], metadata: dict[str, Any], model: str
) -> None:
    """Required fields are there and of their type; absent quantities get their defaults."""
    for name in kind.required:
        if name == "model":
            if not model:
                raise Rejected("model", "missing_field", f"is required for {kind.service_type}")
        elif name not in metrics and metadata.get(name) in (None, ""):
            # a registered type may require what any event can have, such as `session_id`
            if item.get(name) in (None, ""):
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


def _members(name: str, value: Any) -> Iterable[tuple[str, Any]]:
    if value is None:
        return ()
    if type(value) is not dict:
        raise Rejected(name, "wrong_type", "must be an object")
    return value.items()


def _check_text(name: str, value: Any, most: int) -> None:
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
        if not value.is_finite():
            raise Rejected(field, "not_finite", "must be a finite number: neither NaN nor Infinity")
        if 0 <= value <= MAX_QUANTITY:
            _, digits, exponent = value.as_tuple()
            if len(digits) <= _MAX_DIGITS and exponent >= -_MAX_DIGITS:
                value = EXACT.normalize(value)
                if value.as_tuple().exponent >= 0:
                    return int(value)
                if value.as_tuple().exponent >= -MAX_FRACTION_DIGITS:
                    return value  # type: ignore[no-any-return]
            raise Rejected(field, "too_precise", f"has more than {MAX_FRACTION_DIGITS} decimal places; round it")
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
        if not name.isascii() or "\x00" in name:
            _check_storable("metadata", name)
        if type(value) is not str or not value.isascii() or "\x00" in value:
            check_value(f"metadata.{name}", value, MAX_METADATA_DEPTH)
    text = _encode(metadata)
    if len(text) > MAX_METADATA_BYTES:
        raise Rejected("metadata", "too_large", f"takes {len(text)} bytes; at most {MAX_METADATA_BYTES}")
    return text.decode()


def check_value(field: str, value: Any, depth: int) -> None:
    """Refuses what the database cannot hold: NULs, lone surrogates, numbers beyond reason, more levels than `depth`."""
    kind = type(value)
    if kind is str:
        if not value.isascii() or "\x00" in value:
            _check_storable(field, value)
    elif kind is int:
        if not -(10**30) < value < 10**30:
            raise Rejected(field, "number_too_large", "must be below 10^30; send it as text")
    elif kind is Decimal:
        if not value.is_finite():
            raise Rejected(field, "not_finite", "must be a finite number: neither NaN nor Infinity")
        if not -60 < value.adjusted() < 30:
            raise Rejected(field, "number_too_large", "is too large or too small a number; send it as text")
    elif kind is dict or kind is list:
        if depth <= 1:
            raise Rejected(field, "too_deep", "is nested too deeply; flatten it")
        if kind is dict:
            for name, inner in value.items():
                _check_storable(field, name)
                check_value(field, inner, depth - 1)
        else:
            for inner in value:
                check_value(field, inner, depth - 1)

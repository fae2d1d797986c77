"""Validation: what is accepted arrives digit for digit, what is refused says where, why and what to do."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api_gateway.validation import (
    MAX_FRACTION_DIGITS,
    MAX_ID_CHARACTERS,
    MAX_METADATA_BYTES,
    MAX_METADATA_DEPTH,
    MAX_METRICS,
    MAX_QUANTITY,
    MAX_TAGS,
    MAX_TEXT_CHARACTERS,
    Context,
    Rejected,
    canonical_event,
)
from shared.contracts import exact_json
from shared.contracts.envelope import VERSION, Envelope, Event, decode, encode
from shared.domain.service_types import API_SERVICE, DOCUMENT_PROCESSOR, LLM_SERVICE, SHIPPED, ServiceType

NOW = datetime(2026, 6, 15, 12, 0, 0, tzinfo=UTC)
RETENTION = timedelta(days=365)
AHEAD = timedelta(hours=1)
OWN = ServiceType(
    "own_service",
    required=("predictions", "region"),
    optional=("note",),
    loose=frozenset({"predictions", "region", "note"}),
)


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def context(**changes: Any) -> Context:
    values: dict[str, Any] = {
        "tenant_id": "tenant-1",
        "customer_id": None,
        "default_customer_id": "",
        "received_at": microseconds(NOW),
        "oldest": microseconds(NOW - RETENTION),
        "newest": microseconds(NOW + AHEAD),
        "request_id": "request-1",
    }
    return Context(**values | changes)


def canonical(item: dict[str, Any], *, kind: ServiceType | None = None, **changes: Any) -> Event:
    chosen = kind or SHIPPED[item["service_type"]]
    return canonical_event(item, context(**changes), kind=chosen, make_id=lambda: "made-id")


def refusal(item: dict[str, Any], *, kind: ServiceType | None = None, **changes: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as refused:
        canonical(item, kind=kind, **changes)
    assert refused.value.message
    return refused.value.field, refused.value.code


def llm(**fields: Any) -> dict[str, Any]:
    return {
        "service_type": "llm_service",
        "user_id": "user-1",
        "model": "gpt-4",
        "metrics": {"input_tokens": 1, "output_tokens": 2},
        **fields,
    }


def without(item: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in item.items() if key != name}


# --- what is accepted -------------------------------------------------------------------------------------------------


def test_everything_a_sender_may_say_arrives_as_it_was_said() -> None:
    texts = {
        name: f"{name} ✓"
        for name in (
            *(
                "event_id",
                "user_id",
                "customer_id",
                "session_id",
                "request_id",
                "job_id",
                "job_type",
                "run_id",
                "span_id",
            ),
            *("parent_span_id", "section", "service_provider", "event_type", "model", "source", "error_message"),
        )
    }
    event = canonical(
        llm(
            **texts,
            timestamp="2026-06-15T17:00:00.123456+05:30",
            status="failed",
            tags=["a", "ü"],
            metadata={"temperature": Decimal("0.70"), "nested": {"list": [1, None, True]}},
            metrics={"input_tokens": 150, "output_tokens": 75, "latency_ms": Decimal("1234.5"), "own.metric": 3},
        )
    )
    assert {name: getattr(event, name) for name in texts} == texts
    assert event.occurred_at == microseconds(datetime(2026, 6, 15, 11, 30, 0, 123456, tzinfo=UTC))
    assert event.is_timestamped
    assert (event.status, event.tags) == ("failed", ["a", "ü"])
    assert event.metrics == {"input_tokens": 150, "output_tokens": 75, "latency_ms": Decimal("1234.5"), "own.metric": 3}
    assert event.metadata == '{"nested":{"list":[1,null,true]},"temperature":0.70}'


def test_what_is_left_out_has_its_default() -> None:
    event = canonical(llm())
    assert (event.event_id, event.occurred_at, event.is_timestamped) == ("made-id", microseconds(NOW), False)
    assert (event.status, event.event_type, event.service_provider) == ("success", "usage", "")
    assert (event.customer_id, event.tags, event.metadata, event.source) == ("", [], "", "")
    assert event.request_id == "request-1"
    assert (event.session_id, event.job_id, event.run_id, event.error_message) == (None,) * 4


def test_null_is_the_same_as_absent() -> None:
    bare = canonical(llm())
    nulls = dict.fromkeys(
        (
            "event_id",
            "timestamp",
            "customer_id",
            "session_id",
            "tags",
            "status",
            "error_message",
            "metadata",
            "latency_ms",
        )
    )
    assert canonical(llm(**nulls)) == bare
    assert canonical(llm(metadata={"latency_ms": None, "temperature": None})) == bare
    assert canonical(llm(metrics={"input_tokens": 1, "output_tokens": 2, "latency_ms": None})) == bare


def test_an_api_call_counts_as_one_request_unless_it_says_more() -> None:
    item = {"service_type": "api_service", "user_id": "u", "endpoint": "/v1", "method": "GET"}
    assert canonical(item).metrics == {"request_count": 1}
    assert canonical(item | {"request_count": 5}).metrics == {"request_count": 5}


def test_team_id_is_another_name_for_the_customer() -> None:
    assert canonical(llm(team_id="acme")).customer_id == "acme"
    assert canonical(llm(), default_customer_id="acme").customer_id == "acme"
    assert canonical(llm(customer_id="other"), default_customer_id="acme").customer_id == "other"


def test_a_customers_own_key_decides_the_customer() -> None:
    assert canonical(llm(), customer_id="acme").customer_id == "acme"
    assert canonical(llm(customer_id="acme"), customer_id="acme").customer_id == "acme"
    assert refusal(llm(customer_id="other"), customer_id="acme") == ("customer_id", "customer_mismatch")
    assert refusal(llm(), customer_id="acme", default_customer_id="other") == ("customer_id", "customer_mismatch")


# --- where fields may stand -------------------------------------------------------------------------------------------

FIELDS: dict[str, dict[str, Any]] = {
    "llm_service": {
        "model": "gpt-4",
        "input_tokens": 150,
        "output_tokens": 75,
        "cached_input_tokens": 50,
        "cache_write_tokens": 1,
        "reasoning_tokens": 20,
        "latency_ms": Decimal("1234.5"),
        "temperature": Decimal("0.7"),
        "max_tokens": 100,
        "model_version": "0613",
    },
    "document_processor": {
        "document_type": "invoice",
        "processing_type": "extraction",
        "pages_processed": 5,
        "characters_extracted": 10_000,
        "processing_time_ms": 1500,
        "file_size_bytes": 2**40,
        "file_format": "pdf",
    },
    "api_service": {
        "endpoint": "/v1/things",
        "method": "POST",
        "request_count": 3,
        "response_time_ms": Decimal("0.125"),
        "payload_size_bytes": 1,
        "response_size_bytes": 0,
        "status_code": 200,
        "api_version": "v1",
    },
    "own_service": {"predictions": 12, "region": "eu-1", "note": True},
}
KINDS = {**SHIPPED, "own_service": OWN}
PLACES = ("top", "metadata", "metrics", "top and metadata")


def placed(kind: str, places: dict[str, str]) -> dict[str, Any]:
    item: dict[str, Any] = {"service_type": kind, "user_id": "u", "metadata": {"free": "text"}, "metrics": {}}
    for name, value in FIELDS[kind].items():
        for place in places[name].split(" and "):
            (item if place == "top" else item[place])[name] = value
    return item


def test_every_shipped_field_is_tried_below() -> None:
    for kind in SHIPPED.values():
        assert set(FIELDS[kind.service_type]) == kind.fields
        assert kind.metrics <= kind.fields
        assert kind.positive | kind.defaults.keys() <= kind.metrics


@given(st.data())
def test_an_event_is_the_same_wherever_its_fields_stand(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(FIELDS)))
    places = {name: data.draw(st.sampled_from(PLACES), label=name) for name in FIELDS[kind]}
    reference = canonical(placed(kind, dict.fromkeys(FIELDS[kind], "top")), kind=KINDS[kind])
    assert canonical(placed(kind, places), kind=KINDS[kind]) == reference


def test_numbers_that_are_quantities_are_metrics_and_the_rest_is_metadata() -> None:
    for name, kind in KINDS.items():
        event = canonical(placed(name, dict.fromkeys(FIELDS[name], "top")), kind=kind)
        quantities = kind.metrics or {"predictions"}
        metadata = exact_json.loads(event.metadata)
        assert event.metrics == {field: FIELDS[name][field] for field in quantities}
        assert metadata == {"free": "text"} | {
            field: value for field, value in FIELDS[name].items() if field not in quantities and field != "model"
        }


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"input_tokens": 2}, "input_tokens"),
        ({"metadata": {"output_tokens": 1}}, "output_tokens"),
        ({"metadata": {"model": "gpt-5"}}, "model"),
        ({"temperature": 1, "metadata": {"temperature": 2}}, "temperature"),
    ],
)
def test_a_field_stated_twice_with_different_values_is_refused(fields: dict[str, Any], name: str) -> None:
    assert refusal(llm(**fields)) == (name, "contradiction")


@given(
    st.permutations(list(llm(tags=["a"], metadata={"b": 1, "a": 2}).items())),
    st.permutations([("input_tokens", 1), ("output_tokens", 2)]),
)
def test_the_order_of_fields_does_not_matter(items: list[tuple[str, Any]], metrics: list[tuple[str, int]]) -> None:
    shuffled = dict(items) | {"metrics": dict(metrics), "metadata": {"a": 2, "b": 1}}
    assert canonical(shuffled) == canonical(llm(tags=["a"], metadata={"a": 2, "b": 1}))


def test_the_fingerprint_covers_everything_but_the_time_the_id_and_the_source() -> None:
    bare = canonical(llm()).fingerprint
    for same in ({"event_id": "x"}, {"timestamp": "2026-06-15T11:00:00Z"}, {"source": "s"}, {"status": "success"}):
        assert canonical(llm(**same)).fingerprint == bare
    assert canonical(llm(), request_id="another").fingerprint == bare
    names = ("user_id", "customer_id", "service_provider", "event_type", "model", "session_id", "request_id", "job_id")
    more = ("job_type", "run_id", "span_id", "parent_span_id", "section", "error_message")
    changed = [canonical(llm(**{name: "other"})).fingerprint for name in (*names, *more)]
    changed += [canonical(llm(status="failed")).fingerprint, canonical(llm(tags=["t"])).fingerprint]
    changed += [canonical(llm(metadata={"a": 1})).fingerprint, canonical(llm(latency_ms=1)).fingerprint]
    assert len({bare, *changed}) == len(changed) + 1


# --- quantities -------------------------------------------------------------------------------------------------------


def decimal_places(number: Decimal) -> int:
    """How many are needed to write it: 2 for 1.2300."""
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    return max(0, -exponent - (len(text) - len(text.rstrip("0")))) if number else 0


@given(st.integers(0, MAX_QUANTITY), st.text("0123456789", max_size=MAX_FRACTION_DIGITS))
def test_a_quantity_keeps_its_exact_digits_from_the_body_to_the_envelope(whole: int, fraction: str) -> None:
    text = f"{whole}.{fraction}" if fraction else str(whole)
    if Decimal(text) > MAX_QUANTITY:
        return
    body = f'{{"service_type":"llm_service","user_id":"u","model":"m","input_tokens":{text},"output_tokens":0}}'
    event = canonical(exact_json.loads(body))
    (read,) = decode(encode(Envelope(VERSION, 1, "t", 1, 1, "r", [event]))).events
    assert read == event
    quantity = read.metrics["input_tokens"]
    assert quantity == Decimal(text)
    assert isinstance(quantity, int) == (Decimal(text) % 1 == 0)


@given(st.one_of(st.integers(), st.decimals()))
def test_a_quantity_is_accepted_exactly_within_its_bounds(value: int | Decimal) -> None:
    number = Decimal(value)
    is_good = (
        number.is_finite()
        and 0 <= number <= MAX_QUANTITY
        and decimal_places(number) <= MAX_FRACTION_DIGITS
        and len(number.as_tuple().digits) <= 60
    )
    if is_good:
        assert canonical(llm(latency_ms=value)).metrics["latency_ms"] == number
    else:
        field, code = refusal(llm(latency_ms=value))
        assert field == "latency_ms"
        assert code in {"not_finite", "negative_quantity", "quantity_too_large", "too_precise"}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1, "negative_quantity"),
        (Decimal("-0.1"), "negative_quantity"),
        (-(10**500), "negative_quantity"),
        (Decimal("NaN"), "not_finite"),
        (Decimal("sNaN"), "not_finite"),
        (Decimal("-Infinity"), "not_finite"),
        (MAX_QUANTITY + 1, "quantity_too_large"),
        (Decimal("1E+999999999"), "quantity_too_large"),
        (Decimal("9" * 5000), "quantity_too_large"),
        (Decimal("1E-999999999"), "too_precise"),
        (Decimal("0." + "1" * 19), "too_precise"),
        ("150", "wrong_type"),
        (True, "wrong_type"),
        ([1], "wrong_type"),
        ({"a": 1}, "wrong_type"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_quantity_is_refused_wherever_it_stands(value: Any, code: str) -> None:
    assert refusal(llm(latency_ms=value)) == ("latency_ms", code)
    assert refusal(llm(metadata={"latency_ms": value})) == ("metadata.latency_ms", code)
    assert refusal(llm(metrics={"latency_ms": value})) == ("metrics.latency_ms", code)
    assert refusal(llm(metrics={"mine": value})) == ("metrics.mine", code)


def test_equal_quantities_are_equal_events_however_they_are_written() -> None:
    written = [150, Decimal("150.0"), Decimal("1.5E+2"), Decimal("150.000000000000000000000")]
    assert len({canonical(llm(latency_ms=value)).fingerprint for value in written}) == 1
    assert canonical(llm(latency_ms=Decimal("-0.0"))).metrics["latency_ms"] == 0


# --- what is refused --------------------------------------------------------------------------------------------------

LONG = "x" * 200
BAD_TEXTS: list[tuple[Any, str]] = [
    (5, "wrong_type"),
    (False, "wrong_type"),
    (["a"], "wrong_type"),
    ({}, "wrong_type"),
    (LONG, "too_long"),
    ("a\x00b", "invalid_text"),
    ("a\ud800b", "invalid_text"),
]


@pytest.mark.parametrize(
    "name",
    [
        *("event_id", "user_id", "customer_id", "team_id", "session_id", "request_id", "job_id", "job_type", "run_id"),
        *("span_id", "parent_span_id", "section", "service_provider", "event_type", "model", "source"),
    ],
)
def test_ids_and_words_are_short_storable_texts(name: str) -> None:
    for value, code in BAD_TEXTS:
        assert refusal(llm(**{name: value})) == (name, code), value
    longest = "ü" * MAX_ID_CHARACTERS
    assert canonical(llm(**{name: longest}))


def test_a_model_in_metadata_is_checked_like_one_at_top_level() -> None:
    for value, code in BAD_TEXTS:
        assert refusal(without(llm(metadata={"model": value}), "model")) == ("model", code), value


@pytest.mark.parametrize(
    ("item", "field", "code"),
    [
        (without(llm(), "user_id"), "user_id", "missing_field"),
        (llm(user_id=""), "user_id", "missing_field"),
        (llm(user_id=None), "user_id", "missing_field"),
        (without(llm(), "model"), "model", "missing_field"),
        (llm(model=""), "model", "missing_field"),
        (llm(metrics={"input_tokens": 1}), "output_tokens", "missing_field"),
        (without(llm(), "metrics"), "input_tokens", "missing_field"),
        (llm(metrics=[]), "metrics", "wrong_type"),
        (llm(metrics="x"), "metrics", "wrong_type"),
        (llm(metadata=[]), "metadata", "wrong_type"),
        (llm(metadata=0), "metadata", "wrong_type"),
        (llm(metrics={"input_tokens": 1, "output_tokens": 2, "": 1}), "metrics.", "invalid_metric_name"),
        (llm(metrics={"input_tokens": 1, "output_tokens": 2, "$cost": 1}), "metrics.$cost", "invalid_metric_name"),
        (llm(metrics={"input_tokens": 1, "output_tokens": 2, "a\x00": 1}), "metrics.a\x00", "invalid_metric_name"),
        (
            llm(metrics={"input_tokens": 1, "output_tokens": 2, **{f"m{i}": i for i in range(MAX_METRICS)}}),
            "metrics",
            "too_many_metrics",
        ),
        (llm(tokens=5), "tokens", "unknown_field"),
        (llm(status="done"), "status", "invalid_status"),
        (llm(status=""), "status", "invalid_status"),
        (llm(status=0), "status", "invalid_status"),
        (llm(status=["success"]), "status", "invalid_status"),
        (llm(error_message="x" * (MAX_TEXT_CHARACTERS + 1)), "error_message", "too_long"),
        (llm(error_message="\x00"), "error_message", "invalid_text"),
        (llm(error_message=5), "error_message", "wrong_type"),
        (llm(tags="a"), "tags", "wrong_type"),
        (llm(tags={}), "tags", "wrong_type"),
        (llm(tags=[1]), "tags", "wrong_type"),
        (llm(tags=["a"] * (MAX_TAGS + 1)), "tags", "too_many_tags"),
        (llm(tags=[LONG]), "tags", "too_long"),
        (llm(tags=["\x00"]), "tags", "invalid_text"),
        (llm(metadata={"a": "\x00"}), "metadata.a", "invalid_text"),
        (llm(metadata={"\x00": 1}), "metadata", "invalid_text"),
        (llm(metadata={"a": ["\udcff"]}), "metadata.a", "invalid_text"),
        (llm(metadata={"a": {"\x00": 1}}), "metadata.a", "invalid_text"),
        (llm(metadata={"a": "x" * MAX_METADATA_BYTES}), "metadata", "too_large"),
        (llm(metadata={"a": 10**30}), "metadata.a", "number_too_large"),
        (llm(metadata={"a": Decimal("1E+400")}), "metadata.a", "number_too_large"),
        (llm(metadata={"a": [Decimal("NaN")]}), "metadata.a", "not_finite"),
        (llm(temperature=Decimal("Infinity")), "metadata.temperature", "not_finite"),
    ],
)
def test_a_bad_event_is_refused_with_its_field_and_a_code(item: dict[str, Any], field: str, code: str) -> None:
    assert refusal(item) == (field, code)


@pytest.mark.parametrize(
    ("item", "field", "code"),
    [
        ({"document_type": "a", "processing_type": "b"}, "pages_processed", "missing_field"),
        ({"document_type": "a", "processing_type": "b", "pages_processed": 0}, "pages_processed", "not_positive"),
        ({"document_type": "a", "pages_processed": 1}, "processing_type", "missing_field"),
        ({"document_type": 5, "processing_type": "b", "pages_processed": 1}, "document_type", "wrong_type"),
    ],
)
def test_a_document_needs_its_fields(item: dict[str, Any], field: str, code: str) -> None:
    assert refusal(item | {"user_id": "u"}, kind=DOCUMENT_PROCESSOR) == (field, code)


def test_an_api_call_needs_its_endpoint_and_method_as_text() -> None:
    good = {"user_id": "u", "endpoint": "/", "method": "GET"}
    assert refusal(without(good, "endpoint"), kind=API_SERVICE) == ("endpoint", "missing_field")
    assert refusal(good | {"method": ["GET"]}, kind=API_SERVICE) == ("method", "wrong_type")


def test_a_registered_type_may_require_what_any_event_can_have() -> None:
    kind = ServiceType("own", required=("session_id", "customer_id"), loose=frozenset({"session_id", "customer_id"}))
    item = {"user_id": "u", "session_id": "s", "customer_id": "c"}
    assert canonical(item, kind=kind).session_id == "s"
    assert refusal(without(item, "session_id"), kind=kind) == ("session_id", "missing_field")


def test_nesting_is_accepted_to_its_bound_and_no_deeper() -> None:
    def nested(levels: int) -> Any:
        value: Any = 1
        for level in range(levels):
            value = [value] if level % 2 else {"a": value}
        return value

    assert canonical(llm(metadata={"a": nested(MAX_METADATA_DEPTH - 1)})).metadata
    for levels in (MAX_METADATA_DEPTH, 400):
        assert refusal(llm(metadata={"a": nested(levels)})) == ("metadata.a", "too_deep")


@pytest.mark.parametrize(
    ("timestamp", "code"),
    [
        ("2026-06-15T12:00:00", "no_time_zone"),
        ("2026-06-15", "no_time_zone"),
        ("yesterday", "invalid_timestamp"),
        ("", "invalid_timestamp"),
        ("2026-13-01T00:00:00Z", "invalid_timestamp"),
        ("2026-06-15T12:00:00+99:00", "invalid_timestamp"),
        ("\ud800", "invalid_timestamp"),
        (1_780_000_000, "invalid_timestamp"),
        (True, "invalid_timestamp"),
        ({}, "invalid_timestamp"),
        ("2026-06-15T13:00:00.000001Z", "in_the_future"),
        ("9999-12-31T23:59:59-23:59", "in_the_future"),
        ("2025-06-15T11:59:59.999999Z", "too_old"),
        ("0001-01-01T00:00:00+23:59", "too_old"),
    ],
)
def test_a_timestamp_is_an_instant_within_bounds(timestamp: Any, code: str) -> None:
    assert refusal(llm(timestamp=timestamp)) == ("timestamp", code)


@given(
    st.datetimes(
        min_value=(NOW - RETENTION).replace(tzinfo=None) + timedelta(days=1),
        max_value=(NOW - timedelta(days=1)).replace(tzinfo=None),
        timezones=st.timezones(),
    )
)
def test_an_instant_is_kept_to_the_microsecond_whatever_its_zone(moment: datetime) -> None:
    event = canonical(llm(timestamp=moment.isoformat()))
    assert event.occurred_at == microseconds(moment.astimezone(UTC))


def test_a_bound_itself_is_within_it() -> None:
    assert canonical(llm(timestamp="2026-06-15T13:00:00Z")).occurred_at == microseconds(NOW + AHEAD)
    assert canonical(llm(timestamp="2025-06-15T12:00:00Z")).occurred_at == microseconds(NOW - RETENTION)


def test_what_is_named_in_a_refusal_is_short_and_can_be_written_down() -> None:
    for name in ("x" * 100_000, "\ud800", "\x00"):
        for item in (llm(**{name: 1}), llm(metrics={name: -1}), llm(metadata={name: {"\x00": 1}})):
            with pytest.raises(Rejected) as refused:
                canonical(item)
            assert len(refused.value.field) <= 110
            assert exact_json.dumps([refused.value.field, refused.value.message])


# --- anything at all --------------------------------------------------------------------------------------------------

names = st.one_of(
    st.sampled_from(
        sorted(set(chain(*(kind.fields for kind in SHIPPED.values()), llm(), ("tags", "status", "timestamp"))))
    ),
    st.text(max_size=5),
)
numbers = st.decimals().filter(lambda number: not number.is_snan())  # what a reader of JSON can make
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), numbers, st.text(st.characters(), max_size=8), st.just(LONG)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=8,
)


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(names, values, max_size=8), st.booleans())
def test_whatever_is_sent_is_refused_or_readable_by_a_processor(kind: str, item: dict[str, Any], is_full: bool) -> None:
    if is_full:
        item = placed(kind, dict.fromkeys(FIELDS[kind], "top")) | item
    try:
        event = canonical(item, kind=KINDS[kind])
    except Rejected as refused:
        exact_json.dumps([refused.field, refused.code, refused.message])  # fails for what no answer could hold
        return
    assert decode(encode(Envelope(VERSION, 1, "t", 1, 1, "r", [event]))).events == [event]
    assert event.metadata == "" or isinstance(exact_json.loads(event.metadata), dict)


def test_an_event_is_validated_within_its_time() -> None:
    """A generous bound: it notices work that grows with the size of what is refused, not a slow machine."""
    item = llm(metadata={"a": "x" * 8_000_000})
    started = time.perf_counter()
    assert refusal(item) == ("metadata", "too_large")
    assert time.perf_counter() - started < 1


def test_the_shipped_types_are_what_the_documentation_says() -> None:
    assert set(SHIPPED) == {"llm_service", "document_processor", "api_service"}
    assert LLM_SERVICE.required == ("model", "input_tokens", "output_tokens")
    assert DOCUMENT_PROCESSOR.required == ("document_type", "processing_type", "pages_processed")
    assert API_SERVICE.required == ("endpoint", "method")

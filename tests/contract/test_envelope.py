"""The envelope's wire format: what yesterday's gateway wrote, today's processor reads."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.envelope import VERSION, Envelope, Event, UnreadableEnvelope, decode, encode

# Written by version 1. Never edit: a change that cannot read this needs a new VERSION and a reader for the old one.
VERSION_1 = bytes.fromhex(
    "980101a461636d65ce075bcd15cf00061e265e4da000a77265717565737491dc0019a3652d31a0cf00061e265e4da000c3fbab6c6c6d"
    "5f7365727669636501a66f70656e6169aa636f6d706c6574696f6ea175a0a773756363657373a56770742d3482ac696e7075745f746f"
    "6b656e73cc96aa6c6174656e63795f6d73a531322e3530b37b2274656d7065726174757265223a302e377d91aa70726f64756374696f"
    "6ec0c0c0a0c0c0c0c0c0a0"
)
EVENT = Event(
    event_id="e-1",
    source="",
    occurred_at=1_722_000_000_000_000,
    is_timestamped=True,
    fingerprint=-5,
    service_type="llm_service",
    service_version=1,
    service_provider="openai",
    event_type="completion",
    user_id="u",
    customer_id="",
    status="success",
    model="gpt-4",
    metrics={"input_tokens": 150, "latency_ms": Decimal("12.50")},
    metadata='{"temperature":0.7}',
    tags=["production"],
)
ENVELOPE = Envelope(VERSION, 1, "acme", 123_456_789, 1_722_000_000_000_000, "request", [EVENT])


def test_version_1_is_read_as_it_was_meant() -> None:
    assert decode(VERSION_1) == ENVELOPE


def test_version_1_is_still_what_is_written() -> None:
    assert encode(ENVELOPE) == VERSION_1


def test_an_envelope_of_an_unknown_version_is_refused_by_name() -> None:
    with pytest.raises(UnreadableEnvelope, match="envelope version 99"):
        decode(encode(msgspec.structs.replace(ENVELOPE, version=99)))


@given(st.binary(max_size=200) | st.builds(lambda cut: VERSION_1[:cut], st.integers(0, len(VERSION_1) - 1)))
def test_anything_else_is_refused_and_nothing_else_is_raised(data: bytes) -> None:
    with pytest.raises(UnreadableEnvelope):
        decode(data)


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 10**18) | st.decimals(0, 10**18, places=6), max_size=5))
def test_quantities_keep_their_digits(metrics: dict[str, int | Decimal]) -> None:
    event = msgspec.structs.replace(EVENT, metrics=metrics)
    read = decode(encode(msgspec.structs.replace(ENVELOPE, events=[event]))).events[0].metrics
    assert read == metrics
    assert [str(value) for value in read.values()] == [str(value) for value in metrics.values()]

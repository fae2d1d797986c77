"""The envelope: what one accepted request puts on the queue, in msgpack.

Arrays, not maps: the field order below is the wire format. New fields go at the end with a default, so that an older
envelope stays readable by a newer processor; anything else needs a new `VERSION` and a reader for the old one.
"""

from decimal import Decimal

import msgspec

from shared.domain.errors import UsageError

VERSION = 1
Quantity = int | Decimal


class Event(msgspec.Struct, array_like=True, gc=False):
    """One validated usage event. Times are microseconds since the epoch, UTC."""

    event_id: str
    source: str
    occurred_at: int
    is_timestamped: bool  # False: the sender gave no time, `occurred_at` is the time of receipt
    fingerprint: int  # signed 64 bits over everything the sender said except the time
    service_type: str
    service_version: int
    service_provider: str
    event_type: str
    user_id: str
    customer_id: str
    status: str
    model: str
    metrics: dict[str, Quantity]
    metadata: str  # JSON text of an object, "" when empty: written and read back, never looked into
    tags: list[str]
    session_id: str | None = None
    request_id: str | None = None
    job_id: str | None = None
    job_type: str = ""
    run_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    section: str | None = None
    error_message: str | None = None


class Envelope(msgspec.Struct, array_like=True, gc=False):
    """The good events of one request. `receipt` is random and names this acceptance, however often it is delivered."""

    version: int
    tenant: int  # the tenant's row number
    tenant_id: str
    receipt: int  # 63 bits
    received_at: int  # microseconds since the epoch
    request_id: str
    events: list[Event]
    trace_context: str = ""


class UnreadableEnvelope(UsageError):
    """A queue element is not an envelope this version can read."""


_encoder = msgspec.msgpack.Encoder(decimal_format="string")
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    return _encoder.encode(envelope)


def decode(data: bytes) -> Envelope:
    """Raises UnreadableEnvelope, with the reason, for anything but a well-formed envelope of a known version."""
    try:
        envelope = _decoder.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnreadableEnvelope(str(error)) from error
    if envelope.version != VERSION:
        raise UnreadableEnvelope(f"envelope version {envelope.version}, this processor reads {VERSION}")
    return envelope

"""What makes two events the same event, and two bodies the same body."""

import re
from hashlib import blake2b

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z").match


def event_key(source: str, event_id: str) -> tuple[bytes, bool]:
    """The 16 bytes an event is known by within its tenant, and whether they are the event id itself, in binary.

    A canonical UUID sent without a source is its own key, so time-ordered ids stay together in the index; anything
    else becomes a 128-bit digest of the pair (never of a joined string, which could collide).
    """
    if not source and _CANONICAL_UUID(event_id):
        return bytes.fromhex(event_id.replace("-", "")), True
    digest = blake2b(event_id.encode(), digest_size=16, key=blake2b(source.encode(), digest_size=32).digest())
    return digest.digest(), False


def fingerprint(body: bytes) -> int:
    """A signed 64-bit digest of a canonical body, as a bigint column holds it."""
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "big", signed=True)

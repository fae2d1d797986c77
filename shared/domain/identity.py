"""What makes two events the same event, and two bodies the same body."""

from hashlib import blake2b
from uuid import UUID


def event_key(source: str, event_id: str) -> UUID:
    """The 16 bytes an event is known by within its tenant.

    A canonical UUID sent without a source is its own key, so time-ordered ids stay close together in the index; anything
    else becomes a 128-bit digest of the pair (never of a joined string, which could collide).
    """
    if not source and len(event_id) == 36:
        try:
            key = UUID(event_id)
        except ValueError:
            pass
        else:
            if str(key) == event_id:
                return key
    digest = blake2b(event_id.encode(), digest_size=16, key=blake2b(source.encode(), digest_size=32).digest())
    return UUID(bytes=digest.digest())


def fingerprint(body: bytes) -> int:
    """A signed 64-bit digest of a canonical body, as a bigint column holds it."""
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "big", signed=True)

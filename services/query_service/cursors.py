"""The place after the last event of a page, as opaque text."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from shared.domain.errors import InvalidRequest
from shared.storage.usage_queries import Position

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def encode_cursor(position: Position) -> str:
    microseconds = (position.occurred_at - _EPOCH) // timedelta(microseconds=1)
    packed = microseconds.to_bytes(8, "big", signed=True) + position.event_key.bytes
    return base64.urlsafe_b64encode(packed).decode()


def decode_cursor(cursor: str) -> Position:
    """Raises InvalidRequest for anything `encode_cursor` did not make."""
    try:
        packed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        occurred_at = _EPOCH + timedelta(microseconds=int.from_bytes(packed[:8], "big", signed=True))
        return Position(occurred_at, UUID(bytes=packed[8:]))
    except (ValueError, OverflowError, binascii.Error):
        message = "must be `next_cursor` of an earlier answer, unchanged"
        raise InvalidRequest(
            f"cursor {message}.", errors=[{"field": "cursor", "code": "invalid_cursor", "message": message}]
        ) from None

"""JSON in and out without a binary float: numbers keep the digits they were written with."""

from decimal import Decimal
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def _plain(value: Any) -> Any:
    """Decimals become their plain digits (`0.0000001`, never `1E-7`)."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        if "." in text:
            text = text.rstrip("0").rstrip(".")
        return msgspec.Raw(text.encode())
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def dumps(value: Any) -> bytes:
    """Encode to JSON; a Decimal becomes a number with its exact digits, a datetime RFC 3339."""
    return _encoder.encode(_plain(value))


def loads(data: bytes | str) -> Any:
    """Decode JSON; a number with a fraction or exponent becomes a Decimal. Raises msgspec.DecodeError."""
    return _decoder.decode(data)

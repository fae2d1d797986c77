"""JSON in and out without a binary float: numbers keep the digits they were written with."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

_MAX_EXPONENT = 200  # more than any sum of amounts has; `1e999999999` would become a gigabyte of zeros

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def _plain(value: Any) -> Any:
    """Decimals become their plain digits (`0.0000001`, never `1E-7`)."""
    if isinstance(value, Decimal):
        if not value:
            return 0
        if not value.is_finite() or abs(value.adjusted()) > _MAX_EXPONENT:
            raise ValueError("a number that readers of JSON cannot hold")
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
    """Encode to JSON; a Decimal becomes a number with its exact digits, a datetime RFC 3339. ValueError for NaN."""
    return _encoder.encode(_plain(value))


def loads(data: bytes | str) -> Any:
    """Decode JSON; a number with a fraction or exponent becomes a Decimal. Raises ValueError (msgspec.DecodeError)."""
    try:
        return _decoder.decode(data)
    except InvalidOperation as error:
        raise msgspec.DecodeError("a number is out of range") from error


def loads_leniently(data: bytes) -> Any:
    """Decode also what JSON forbids and senders write, so that it can be refused where it stands, and it alone.

    NaN and the infinities, and numbers beyond any range, become Decimals that are not finite; bytes that are not UTF-8
    and halves of surrogate pairs become lone surrogates. None of that may be stored. Raises ValueError.
    """
    return json.loads(
        data.decode("utf-8", "surrogateescape"), parse_float=_number, parse_int=_whole_number, parse_constant=Decimal
    )


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _whole_number(text: str) -> int | Decimal:
    return int(text) if len(text) <= 1000 else Decimal(text)  # int() refuses, and is slow with, thousands of digits

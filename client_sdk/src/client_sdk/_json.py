"""JSON with exact numbers: a Decimal is written digit for digit and read back as a Decimal.

The standard library's encoder can only write a Decimal through a float or as text, hence a writer of our own. It also
says which field is wrong, and it runs when an event is tracked, so what the caller changes later is not sent.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from json.encoder import encode_basestring as quote
from numbers import Integral
from typing import Any
from uuid import UUID

from client_sdk.exceptions import ValidationError

# Decimal("1E+999999") is three words for the caller and a megabyte of zeros on the wire.
_LONGEST_NUMBER = 100


def write_json(value: object) -> bytes:
    try:
        return _write(value, "").encode()
    except UnicodeEncodeError:
        raise ValidationError("text holds a lone surrogate, which no UTF-8 body can carry") from None
    except RecursionError:
        raise ValidationError("nested too deeply, or contains itself") from None


def read_json(body: bytes) -> Any:
    return json.loads(body, parse_float=Decimal)


def write_instant(value: datetime, name: str) -> str:
    if value.utcoffset() is None:
        raise ValidationError(f"{name}: a datetime needs a time zone, for example datetime.now(UTC)")
    return value.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _write(value: object, path: str) -> str:
    kind = type(value)
    if kind is str:  # the two that nearly all values are, looked for the quick way
        return quote(value)  # type: ignore[arg-type]
    if kind is int:
        return repr(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | Mapping):
        return "{" + ",".join([_write_member(key, item, path) for key, item in value.items()]) + "}"
    if isinstance(value, str):  # a StrEnum, say
        return quote(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValidationError(f"{path} must be a finite number")
        return float.__repr__(value)
    if isinstance(value, Decimal):
        return _write_decimal(value, path)
    if isinstance(value, list | tuple):
        return "[" + ",".join(_write(item, f"{path}[{index}]") for index, item in enumerate(value)) + "]"
    if isinstance(value, datetime):
        return f'"{write_instant(value, path)}"'
    if isinstance(value, date | UUID):
        return f'"{value}"'
    if isinstance(value, Integral):  # numpy's integers, which are no int
        return str(int(value))
    raise ValidationError(f"{path}: a {type(value).__name__} cannot be sent as JSON")


def _write_member(key: object, value: object, path: str) -> str:
    if not isinstance(key, str):
        raise ValidationError(f"{path}: {key!r} is a key and must be text")
    return f"{quote(key)}:{_write(value, f'{path}.{key}' if path else key)}"


def _write_decimal(value: Decimal, path: str) -> str:
    if not value.is_finite():
        raise ValidationError(f"{path} must be a finite number")
    _, digits, exponent = value.as_tuple()
    if isinstance(exponent, int) and len(digits) + abs(exponent) > _LONGEST_NUMBER:
        raise ValidationError(f"{path} has more than {_LONGEST_NUMBER} digits")
    return format(value, "f")

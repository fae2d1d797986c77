"""JSON without a binary float: digits survive both ways, and what cannot be written is an error, not a gigabyte."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts import exact_json


@given(st.decimals(min_value=Decimal("-1e30"), max_value=Decimal("1e30"), allow_nan=False, places=40))
def test_a_number_is_written_in_plain_digits_and_read_back_equal(value: Decimal) -> None:
    text = exact_json.dumps({"amount": value}).decode()
    assert "E" not in text
    assert exact_json.loads(text)["amount"] == value


@pytest.mark.parametrize(
    ("value", "text"),
    [("1E-7", "0.0000001"), ("0.0000234", "0.0000234"), ("1.50", "1.5"), ("1E+3", "1000"), ("-0.0", "0")],
)
def test_decimals_lose_their_exponent_and_trailing_zeros(value: str, text: str) -> None:
    assert exact_json.dumps([Decimal(value)]) == f"[{text}]".encode()


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "1E+999999999", "1E-999999999", "9" * 10_000], ids=lambda text: text[:12]
)
def test_a_number_that_no_reader_could_hold_is_not_written(value: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        exact_json.dumps([Decimal(value)])


@pytest.mark.parametrize("text", [b"1e99999999999999999999", b"NaN", b"[1,]", b'"\xff"', b"", b"9" * 5000])
def test_what_is_not_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        exact_json.loads(text)


def test_reading_leniently_marks_what_may_not_be_stored() -> None:
    text = b'[NaN, -Infinity, 1e99999999999999999999, 1.50, 7, "a\xffb", "\\ud800", ' + b"9" * 5000 + b"]"
    nan, infinite, beyond, exact, whole, bad_bytes, half, long = exact_json.loads_leniently(text)
    assert not any(number.is_finite() for number in (nan, infinite, beyond))
    assert (str(exact), whole) == ("1.50", 7)
    assert (bad_bytes, half) == ("a\udcffb", "\ud800")
    assert long == Decimal("9" * 5000)


json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)),
)


@given(json_values)
def test_both_readers_agree_on_proper_json(value: object) -> None:
    text = json.dumps(value).encode()
    assert exact_json.loads(text) == exact_json.loads_leniently(text)

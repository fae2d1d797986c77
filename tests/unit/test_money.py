"""Money: no digit is lost silently, and equal amounts are equal text."""

from decimal import Decimal, FloatOperation, Inexact, Overflow, getcontext, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.money import (
    AMOUNT,
    EXACT,
    InvalidCurrency,
    currency_code,
    exact_context,
    exact_sum,
    exact_text,
)

amounts = st.decimals(min_value=0, max_value=Decimal("1e29"), allow_nan=False, allow_infinity=False, places=40)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1E-7", "0.0000001"),
        ("0.00900000", "0.009"),
        ("0", "0"),
        ("-0.000", "0"),
        ("0E+5", "0"),
        ("100", "100"),
        ("1E+2", "100"),
        ("1200.00", "1200"),
        ("-0.0000234", "-0.0000234"),
        ("123456789012345678901234567890.123456789012345678901234567890", None),
    ],
)
def test_text_is_plain_digits(amount: str, text: str | None) -> None:
    with localcontext() as context:
        context.prec = 5  # the thread's context has no say
        assert exact_text(Decimal(amount)) == (text or amount.rstrip("0"))


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_text_of_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        exact_text(Decimal(amount))


@given(amounts, st.integers(0, 20))
def test_text_reads_back_and_ignores_how_the_amount_was_written(amount: Decimal, zeros: int) -> None:
    with exact_context():
        padded = amount + Decimal(0).scaleb(-60 - zeros)
    assert exact_text(amount) == exact_text(padded)
    assert Decimal(exact_text(amount)) == amount
    assert "E" not in exact_text(amount)


@given(st.lists(amounts), st.randoms(use_true_random=False))
def test_a_sum_is_exact_and_has_no_order(values: list[Decimal], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert exact_sum(values) == exact_sum(shuffled)
    assert Fraction(exact_sum(values)) == sum(map(Fraction, values))


def test_the_default_context_would_have_rounded_where_the_exact_one_does_not() -> None:
    large, small = Decimal("1e20"), Decimal("1e-20")
    assert large + small == large
    with exact_context():
        assert sum([large, small, -large]) == small
    assert getcontext().prec == 28


def test_a_lost_digit_is_an_exception() -> None:
    with exact_context(), pytest.raises(Inexact):
        Decimal(1) / Decimal(3)
    with pytest.raises(Inexact):
        EXACT.add(Decimal("1e150"), Decimal("1e-150"))
    with pytest.raises(Inexact):
        AMOUNT.multiply(Decimal("1e-60"), Decimal("1e-60"))
    with pytest.raises(Overflow):
        AMOUNT.multiply(Decimal("1e15"), Decimal("1e15"))


def test_no_float_comes_near() -> None:
    with pytest.raises(TypeError):
        AMOUNT.multiply(Decimal(1), 0.1)  # type: ignore[arg-type]
    with exact_context(), pytest.raises(FloatOperation):
        Decimal(0.1)  # noqa: RUF032


@pytest.mark.parametrize("code", ["USD", "EUR", "JPY", "XOF"])
def test_currency(code: str) -> None:
    assert currency_code(code) == code


@pytest.mark.parametrize("code", ["", "usd", "US", "USDT", "UDS", "XXX", "XAU", " USD"])
def test_not_a_currency(code: str) -> None:
    with pytest.raises(InvalidCurrency):
        currency_code(code)

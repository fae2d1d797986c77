"""Money: the arithmetic that may not round, the text an amount is written as, and the currencies it can be in.

`Decimal`'s operators round silently to the 28 digits of whatever context the thread happens to have. Nothing here
depends on that context: amounts are computed and added through the two below, where a lost digit is an exception.

    an amount   below 10^30, at most 89 decimal places; `AMOUNT` computes one or refuses
    a sum       200 digits: room for more amounts than will ever exist; `EXACT` adds them
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    FloatOperation,
    Inexact,
    InvalidOperation,
    Overflow,
    Underflow,
    localcontext,
)
from functools import reduce
from typing import Final

ZERO: Final = Decimal(0)

_TRAPS: Final = [DivisionByZero, FloatOperation, Inexact, InvalidOperation, Overflow, Underflow]

# Emin=0 makes this fixed point: the smallest step is 10^-(prec-1), and anything finer is trapped as Inexact.
AMOUNT: Final = Context(prec=90, rounding=ROUND_HALF_EVEN, Emin=0, Emax=29, capitals=1, clamp=0, traps=_TRAPS)
EXACT: Final = Context(prec=200, rounding=ROUND_HALF_EVEN, Emin=-999, Emax=999, capitals=1, clamp=0, traps=_TRAPS)

# ISO 4217, money only: no metals, bond units, testing codes or codes withdrawn from use.
CURRENCIES: Final = frozenset(
    """
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLF CLP
    CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF
    IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD
    MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB
    RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD
    UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
    """.split()  # noqa: SIM905 - a hundred and fifty quoted strings would be harder to read
)


class InvalidCurrency(ValueError):
    """A currency is one of the upper-case three-letter codes of ISO 4217."""


def currency_code(code: str) -> str:
    """The code itself, or `InvalidCurrency`. Lower case is refused: two spellings would become two currencies."""
    if code not in CURRENCIES:
        raise InvalidCurrency(f"{code!r} is not an ISO 4217 currency code such as 'USD'")
    return code


def exact_context() -> AbstractContextManager[Context]:
    """`with exact_context():` makes `+`, `-`, `*` and `sum` on this thread exact, or `decimal.Inexact`."""
    return localcontext(EXACT)


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """The sum, to the last digit and whatever the order."""
    return reduce(EXACT.add, amounts, ZERO)


def exact_text(amount: Decimal) -> str:
    """All of its digits and no others: never an exponent, no trailing zeros, so that equal amounts are equal text."""
    if not amount.is_finite():
        raise ValueError(f"{amount} is not an amount")
    if not amount:
        return "0"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

"""Rating: a cost depends on the quantities and the rate in force, and on nothing else, to the last digit."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_DOWN, Decimal, localcontext
from fractions import Fraction
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.money import exact_sum, exact_text
from shared.domain.rating import (
    EARLIEST,
    LATEST,
    Component,
    InvalidRate,
    Price,
    Rate,
    RateBook,
)

DAY_ZERO = datetime(2026, 1, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    return DAY_ZERO + timedelta(days=number)


def rate(method: str = "multiply", *components: Component, **changes: Any) -> Rate:
    values: dict[str, Any] = {
        "rate_id": 1,
        "version": 1,
        "service_type": "llm_service",
        "method": method,
        "components": components or (Component("input_tokens", Decimal("0.03"), Decimal(1000)),),
        "currency": "USD",
        "effective_from": DAY_ZERO,
    }
    return Rate(**(values | changes))


def cost(price: Price, quantities: Mapping[str, int | Decimal]) -> Decimal | None:
    return price.cost(quantities)


GPT_4 = rate(
    "sum",
    Component("input_tokens", Decimal("0.03"), Decimal(1000)),
    Component("output_tokens", Decimal("0.06"), Decimal(1000)),
)

# --- methods ----------------------------------------------------------------------------------------------------------


def test_the_published_case() -> None:
    assert cost(GPT_4.price, {"input_tokens": 150, "output_tokens": 75}) == Decimal("0.0090")


def test_multiply_needs_its_metric() -> None:
    pages = rate("multiply", Component("pages", Decimal("0.015"))).price
    assert cost(pages, {"pages": 4}) == Decimal("0.06")
    assert cost(pages, {"pages": Decimal("2.5")}) == Decimal("0.0375")
    assert cost(pages, {"pages": 0}) == 0
    assert cost(pages, {"requests": 4}) is None


def test_sum_counts_absent_metrics_as_nothing_but_needs_one() -> None:
    assert cost(GPT_4.price, {"output_tokens": 75}) == Decimal("0.0045")
    assert cost(GPT_4.price, {"pages": 75}) is None
    assert cost(GPT_4.price, {}) is None


def test_flat_is_per_event() -> None:
    flat = rate("flat", Component("requests", Decimal("0.01"))).price
    assert cost(flat, {}) == cost(flat, {"requests": 7}) == Decimal("0.01")


def test_the_minimum_is_last_and_only_for_what_can_be_priced() -> None:
    price = replace(GPT_4, minimum=Decimal("0.01")).price
    assert cost(price, {"input_tokens": 150, "output_tokens": 75}) == Decimal("0.01")
    assert cost(price, {"input_tokens": 1000}) == Decimal("0.03")
    assert cost(price, {"pages": 1}) is None


@pytest.mark.parametrize(
    "quantity",
    [-1, 10**5000, *map(Decimal, ("-0.1", "NaN", "sNaN", "Infinity", "1e99999999", "1e-99999999"))],
    ids=["negative", "huge int", "negative decimal", "NaN", "sNaN", "Infinity", "huge", "tiny"],
)
@pytest.mark.parametrize("per", [1000, 3])
def test_an_absurd_quantity_is_unpriced_never_wrong(quantity: int | Decimal, per: int) -> None:
    price = rate("multiply", Component("input_tokens", Decimal("0.03"), Decimal(per * 7))).price
    assert cost(price, {"input_tokens": quantity}) is None
    with localcontext() as context:
        context.clear_traps()
        assert cost(price, {"input_tokens": quantity}) is None


@pytest.mark.parametrize("per", [1, 3])
def test_a_float_is_a_mistake_of_the_caller(per: int) -> None:
    with pytest.raises(TypeError):
        rate("multiply", Component("pages", Decimal(1), Decimal(per))).price.cost({"pages": 0.5})  # type: ignore[dict-item]


# --- exactness --------------------------------------------------------------------------------------------------------

quantities_ = st.one_of(st.integers(0, 10**15), st.decimals(0, Decimal(10**12), places=9))
prices_ = st.decimals(0, Decimal(10**6), places=12)
ending_pers = st.sampled_from([Decimal(text) for text in ("1", "1000", "1000000", "8", "0.25", "1024", "1E+6")])


@given(st.lists(st.tuples(quantities_, prices_, ending_pers), min_size=1, max_size=6), st.integers(1, 60))
def test_a_sum_is_the_fraction(parts: list[tuple[int | Decimal, Decimal, Decimal]], precision: int) -> None:
    price = rate("sum", *(Component(f"m{i}", amount, per) for i, (_, amount, per) in enumerate(parts))).price
    with localcontext() as context:
        context.prec, context.rounding = precision, ROUND_DOWN  # whatever the thread's context is
        answer = cost(price, {f"m{i}": quantity for i, (quantity, _, _) in enumerate(parts)})
    assert answer is not None
    assert Fraction(answer) == sum(Fraction(q) * Fraction(amount) / Fraction(per) for q, amount, per in parts)
    assert price.basis.rounding is None


@given(quantities_, prices_, st.sampled_from([Decimal(n) for n in (3, 7, 60, 3600, 999_999)]))
def test_a_division_without_end_is_rounded_half_even_at_30_places(
    quantity: int | Decimal, amount: Decimal, per: Decimal
) -> None:
    price = rate("multiply", Component("seconds", amount, per)).price
    exact = Fraction(quantity) * Fraction(amount) / Fraction(per)
    answer = cost(price, {"seconds": quantity})
    assert answer is not None
    if price.basis.rounding is None:  # this amount is a multiple of what would not divide
        assert Fraction(answer) == exact
    else:
        assert price.basis.rounding == "half_even_30"
        assert Fraction(answer) == Fraction(round(exact * 10**30), 10**30)


def test_a_half_goes_to_the_even_neighbour() -> None:
    price = rate("multiply", Component("units", Decimal("1e-30"), Decimal(6))).price
    assert cost(price, {"units": 3}) == 0
    assert cost(price, {"units": 9}) == Decimal("2e-30")
    assert cost(price, {"units": 10}) == Decimal("2e-30")


@given(st.lists(st.tuples(quantities_, quantities_), max_size=30), st.integers(0, 29), st.randoms())
def test_no_order_and_no_batch_changes_a_digit(
    events: list[tuple[int | Decimal, int | Decimal]], cut: int, random: Random
) -> None:
    def rated(some: list[tuple[int | Decimal, int | Decimal]]) -> list[Decimal]:
        price = replace(GPT_4, version=2).price  # a price of its own, as another process would have
        costs = [price.cost({"input_tokens": a, "output_tokens": b}) for a, b in some]
        return [each for each in costs if each is not None]

    whole = exact_sum(rated(events))
    shuffled = list(events)
    random.shuffle(shuffled)
    parts = exact_sum([exact_sum(rated(shuffled[:cut])), exact_sum(rated(shuffled[cut:]))])
    assert exact_text(whole) == exact_text(parts)
    assert sorted(rated(shuffled)) == sorted(rated(events))


# --- what may be written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Component("", Decimal(1)), "metric"),
        (lambda: Component("pages", Decimal(-1)), "amount of pages"),
        (lambda: Component("pages", Decimal("NaN")), "amount of pages"),
        (lambda: Component("pages", Decimal("Infinity")), "amount of pages"),
        (lambda: Component("pages", Decimal("1e30")), "amount of pages"),
        (lambda: Component("pages", 0.1), "amount of pages"),  # type: ignore[arg-type]
        (lambda: Component("pages", Decimal(1), Decimal(0)), "per of pages"),
        (lambda: Component("pages", Decimal(1), Decimal(-1)), "per of pages"),
        (lambda: Component("pages", Decimal(1), 1000), "per of pages"),  # type: ignore[arg-type]
        (lambda: rate(service_type=""), "service_type"),
        (lambda: rate(provider=""), "provider"),
        (lambda: rate(customer_id=""), "customer_id"),
        (lambda: rate("package"), "method"),
        (lambda: rate("multiply", Component("a", Decimal(1)), Component("b", Decimal(1))), "components"),
        (lambda: rate("sum", Component("a", Decimal(1)), Component("a", Decimal(2))), "components"),
        (lambda: rate("sum", components=()), "components"),
        (lambda: rate("flat", Component("requests", Decimal(1), Decimal(1000))), "per"),
        (lambda: rate(currency="usd"), "currency"),
        (lambda: rate(minimum=Decimal(-1)), "minimum"),
        (lambda: rate(effective_from=datetime(2026, 1, 1)), "effective_from"),  # noqa: DTZ001
        (lambda: rate(effective_until=datetime(2027, 1, 1)), "effective_until"),  # noqa: DTZ001
        (lambda: rate(effective_until=DAY_ZERO), "effective_until"),
        (lambda: rate(effective_until=day(-1)), "effective_until"),
    ],
)
def test_a_rate_that_cannot_be_applied_is_refused_by_name(make: Any, field: str) -> None:
    with pytest.raises(InvalidRate, match=f"^{field}"):
        make()


def test_the_basis_says_what_was_used() -> None:
    basis = replace(GPT_4, rate_id=7, version=3, minimum=Decimal("0.010")).price.basis
    assert json.loads(basis.as_json()) == {
        "source": "rate",
        "rate_id": 7,
        "version": 3,
        "effective_from": "2026-01-01T00:00:00+00:00",
        "method": "sum",
        "currency": "USD",
        "components": [
            {"metric": "input_tokens", "amount": "0.03", "per": "1000"},
            {"metric": "output_tokens", "amount": "0.06", "per": "1000"},
        ],
        "minimum": "0.01",
    }


def test_equal_rates_have_one_basis_however_they_were_written() -> None:
    east = timezone(timedelta(hours=5))
    one = rate("multiply", Component("pages", Decimal("1.50"), Decimal("1E+3")))
    same = rate("multiply", Component("pages", Decimal("1.5"), Decimal(1000)), effective_from=DAY_ZERO.astimezone(east))
    assert one.price.basis == same.price.basis
    assert hash(one.price.basis) == hash(same.price.basis)
    assert one.price.basis.as_json() == same.price.basis.as_json()


# --- which rate -------------------------------------------------------------------------------------------------------

names = st.sampled_from([None, "a", "b"])
rates_ = st.builds(
    lambda identity, provider, model, customer, start, length: rate(
        rate_id=identity,
        provider=provider,
        model=model,
        customer_id=customer,
        effective_from=day(start),
        effective_until=None if length is None else day(start + length),
    ),
    st.integers(1, 1000),
    names,
    names,
    names,
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 4)),
)
books = st.lists(rates_, max_size=25, unique_by=lambda each: each.rate_id)
moments = st.integers(-4, 48).map(lambda quarter: day(quarter / 4))


def brute_force(rates: list[Rate], provider: str | None, model: str | None, customer: str | None, at: datetime) -> Any:
    fitting = [
        each
        for each in rates
        if each.provider in (None, provider)
        and each.model in (None, model)
        and each.customer_id in (None, customer)
        and each.effective_from <= at
        and (each.effective_until is None or at < each.effective_until)
    ]
    return max(
        fitting,
        key=lambda each: (
            each.customer_id is not None,
            each.model is not None,
            each.provider is not None,
            each.effective_from,
            each.rate_id,
        ),
        default=None,
    )


@given(books, names, names, names, moments)
def test_the_most_specific_rate_in_force_wins(
    rates: list[Rate], provider: str | None, model: str | None, customer: str | None, at: datetime
) -> None:
    expected = brute_force(rates, provider, model, customer, at)
    assert RateBook(rates).find("llm_service", provider, model, customer, at) is expected
    assert RateBook(rates[::-1]).find("llm_service", provider, model, customer, at) is expected
    assert RateBook(rates).find("api_service", provider, model, customer, at) is None


@given(books, names, names, names, moments, st.lists(moments, max_size=20))
def test_an_answer_holds_over_its_interval(
    rates: list[Rate],
    provider: str | None,
    model: str | None,
    customer: str | None,
    at: datetime,
    others: list[datetime],
) -> None:
    found, start, end = RateBook(rates).lookup("llm_service", provider, model, customer, at)
    assert start <= at < end
    last = end - timedelta(microseconds=1)
    for other in [start, last, *(each for each in others if start <= each < end)]:
        assert brute_force(rates, provider, model, customer, other) is found


def test_the_interval_is_half_open_and_open_ended() -> None:
    old, new = rate(rate_id=1, effective_until=day(10)), rate(rate_id=2, effective_from=day(10))
    book = RateBook([new, old])

    def ask(at: datetime) -> tuple[Rate | None, datetime, datetime]:
        return book.lookup("llm_service", "openai", "gpt-4", None, at)

    assert ask(day(-1)) == (None, EARLIEST, day(0))
    assert ask(day(0)) == (old, day(0), day(10))
    assert ask(day(10) - timedelta(microseconds=1)) == (old, day(0), day(10))
    assert ask(day(10)) == (new, day(10), LATEST)
    assert RateBook([]).lookup("llm_service", None, None, None, day(0)) == (None, EARLIEST, LATEST)


def test_among_equals_the_latest_start_wins_then_the_highest_id_then_the_highest_version() -> None:
    early = rate(rate_id=9, version=9)
    low, high = rate(rate_id=2, version=5, effective_from=day(1)), rate(rate_id=3, version=1, effective_from=day(1))
    newer = rate(rate_id=3, version=2, effective_from=day(1))
    for rates in ([early, low, high, newer], [newer, high, low, early]):
        assert RateBook(rates).find("llm_service", None, None, None, day(2)) is newer
        assert RateBook(rates[:1] + rates[-1:]).find("llm_service", None, None, None, day(0.5)) is early
    assert RateBook([high, low]).find("llm_service", None, None, None, day(2)) is high


def test_a_gap_in_the_specific_rate_uncovers_the_general_one() -> None:
    general = rate(rate_id=1, effective_until=day(30))
    special = [
        rate(rate_id=2, customer_id="acme", effective_from=day(1), effective_until=day(2)),
        rate(rate_id=3, customer_id="acme", effective_from=day(5)),
    ]
    found, start, end = RateBook([general, *special]).lookup("llm_service", "openai", "gpt-4", "acme", day(3))
    assert (found, start, end) == (general, day(2), day(5))


def test_the_repeated_hour_of_autumn_is_two_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=0)
    second = datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=1)
    book = RateBook([rate(effective_from=first, effective_until=second)])
    assert book.find("llm_service", None, None, None, first) is not None
    assert book.find("llm_service", None, None, None, first.astimezone(UTC) + timedelta(minutes=59)) is not None
    assert book.find("llm_service", None, None, None, second) is None


def test_a_time_without_a_zone_is_no_time() -> None:
    with pytest.raises(ValueError, match="time zone"):
        RateBook([]).find("llm_service", None, None, None, datetime(2026, 1, 1))  # noqa: DTZ001

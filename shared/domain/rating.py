"""Rating: what an event costs, from its quantities and the rate in force at its time, and nothing else.

A `Rate` is what a tenant wrote down; a `Price` is what is made of it once and then asked for many costs; a `PriceBasis`
is the record of it kept with every event it priced. `RateBook` says which rate answers for whom, and until when.

`None` for a cost means "this price cannot tell": the event is unpriced, which is never the same as free.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal, Inexact
from functools import partial
from heapq import heappop, heappush
from itertools import product
from typing import Final, NamedTuple, Protocol, TypeAlias

from shared.domain.money import AMOUNT, ZERO, currency_code, exact_text

Quantities: TypeAlias = Mapping[str, int | Decimal]

# The open ends of time: an interval [EARLIEST, LATEST) holds always, and comparing needs no case for "no end".
EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)

ROUNDING_PLACES: Final = 30
ROUNDING: Final = f"half_even_{ROUNDING_PLACES}"
_ROUNDING_SCALE: Final = 10**ROUNDING_PLACES

# What arithmetic on an absurd quantity raises: NaN, an infinity, more digits than an amount holds. A float is none of
# these: it is a caller's mistake, and its TypeError is let through.
NOT_AN_AMOUNT: Final = (ArithmeticError, ValueError)


def in_utc(moment: datetime) -> datetime:
    """The same instant in UTC. Datetimes of one zone compare by its wall clock, which repeats an hour every autumn."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} needs a time zone")
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


class InvalidRate(ValueError):
    """A rate that cannot be applied: its message names the field and says what was expected."""


# --- prices -----------------------------------------------------------------------------------------------------------


class BasisComponent(NamedTuple):
    """`amount` of money per `per` units of the metric; for a tier, only when the event's input is above `above`."""

    metric: str
    amount: str
    per: str
    above: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBasis:
    """What an event was priced with: enough to do the sum again by hand. Equal prices have equal bases.

    `method` is a rate's, or `nested_sum` for the catalogue: every quantity is first reduced by the parts of it that
    have a price of their own (cached tokens are part of the input). `rounding` is None where every cost is exact.
    """

    source: str  # "rate" or "catalogue"
    method: str
    currency: str
    components: tuple[BasisComponent, ...]
    rounding: str | None = None
    minimum: str | None = None
    effective_from: str | None = None
    daily_window: str | None = None
    rate_id: int | None = None
    version: int | None = None
    catalogue: str | None = None
    provider: str | None = None
    model: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain JSON values; what does not apply is left out."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["components"] = [
            {name: value for name, value in component._asdict().items() if value is not None}
            for component in self.components
        ]
        return {name: value for name, value in values.items() if value is not None}

    def as_json(self) -> str:
        """Canonical: equal bases give equal text in every process, so the text or its digest can be the key."""
        return json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))


class Price(Protocol):
    """Something that can say what quantities cost."""

    @property
    def basis(self) -> PriceBasis: ...

    @property
    def currency(self) -> str: ...

    def cost(self, quantities: Quantities) -> Decimal | None:
        """The exact cost, or None where this price cannot tell. Pure, quick, and for any thread; never rounds unless
        `basis.rounding` says so. Raises only for a quantity that is not an int or a Decimal."""


class UnitPrice:
    """Money per one unit of something. `add(quantity, total)` is the total with this quantity's cost added.

    Exact where amount ÷ per ends (0.03 per 1000). Where it does not (1 per 3), quantity × amount ÷ per is worked out
    whole and rounded once, half to even, at 30 decimal places: for each component, before components are added.
    """

    __slots__ = ("add", "is_exact")

    add: Callable[[int | Decimal, Decimal], Decimal]
    is_exact: bool

    def __init__(self, amount: Decimal, per: Decimal) -> None:
        try:
            # a partial of a C function: this is called for every component of every event
            self.add = partial(AMOUNT.fma, AMOUNT.divide(amount, per))
            self.is_exact = True
        except Inexact:
            (top, below_top), (bottom, below_bottom) = amount.as_integer_ratio(), per.as_integer_ratio()
            self.add = partial(_add_rounded, top * below_bottom, below_top * bottom)
            self.is_exact = False


def _add_rounded(numerator: int, denominator: int, quantity: int | Decimal, total: Decimal) -> Decimal:
    count, parts = AMOUNT.plus(quantity).as_integer_ratio()
    dividend, divisor = count * numerator * _ROUNDING_SCALE, parts * denominator
    whole, rest = divmod(dividend, divisor)
    if 2 * rest > divisor or (2 * rest == divisor and whole % 2):
        whole += 1
    return AMOUNT.add(total, AMOUNT.scaleb(whole, -ROUNDING_PLACES))


# --- rates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Component:
    """`amount` of money per `per` units of the metric."""

    metric: str
    amount: Decimal
    per: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        if not self.metric:
            raise InvalidRate("metric: a component names the metric it prices")
        _require_amount(f"amount of {self.metric}", self.amount)
        _require_amount(f"per of {self.metric}", self.per)
        if not self.per:
            raise InvalidRate(f"per of {self.metric}: must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Money per unit for a service type, in force over [effective_from, effective_until). None matches everything.

    `price` is made from it here, once: a `Rate` in hand is a rate that can be applied. Whether a failed event is billed
    at all (`bills_failed`) is for the caller to ask before the cost.
    """

    rate_id: int
    version: int
    service_type: str
    provider: str | None = None
    model: str | None = None
    customer_id: str | None = None
    method: str
    components: tuple[Component, ...]
    currency: str
    effective_from: datetime
    effective_until: datetime | None = None
    minimum: Decimal | None = None
    bills_failed: bool = False
    price: "RatePrice" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.service_type:
            raise InvalidRate("service_type: must not be empty")
        for name in ("provider", "model", "customer_id"):
            if getattr(self, name) == "":
                raise InvalidRate(f"{name}: must not be empty; leave it out to match every {name}")
        for name in ("effective_from", "effective_until"):
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise InvalidRate(f"{name}: needs a time zone")
            object.__setattr__(self, name, moment and in_utc(moment))
        if self.effective_until is not None and self.effective_until <= self.effective_from:
            raise InvalidRate("effective_until: must be after effective_from")
        if self.minimum is not None:
            _require_amount("minimum", self.minimum)
        try:
            currency_code(self.currency)
        except ValueError as error:
            raise InvalidRate(f"currency: {error}") from error
        object.__setattr__(self, "price", RatePrice(self))


class RatePrice:
    """A `Price` made from a rate. The minimum is applied last, to every event the method could price."""

    __slots__ = ("_cost", "_minimum", "_terms", "basis", "currency")

    def __init__(self, rate: Rate) -> None:
        method = METHODS.get(rate.method)
        if method is None:
            raise InvalidRate(f"method: {rate.method!r} is not one of {', '.join(sorted(METHODS))}")
        method.check(rate.components)
        self._cost = method.cost
        prices = [UnitPrice(part.amount, part.per) for part in rate.components]
        self._terms = tuple((part.metric, price.add) for part, price in zip(rate.components, prices, strict=True))
        self._minimum = ZERO if rate.minimum is None else rate.minimum
        self.currency = rate.currency
        self.basis = PriceBasis(
            source="rate",
            rate_id=rate.rate_id,
            version=rate.version,
            effective_from=rate.effective_from.isoformat(),
            method=rate.method,
            currency=rate.currency,
            components=tuple(
                BasisComponent(part.metric, exact_text(part.amount), exact_text(part.per)) for part in rate.components
            ),
            minimum=None if rate.minimum is None else exact_text(rate.minimum),
            rounding=None if all(price.is_exact for price in prices) else ROUNDING,
        )

    def cost(self, quantities: Quantities) -> Decimal | None:
        try:
            cost = self._cost(self._terms, quantities)
        except NOT_AN_AMOUNT:
            return None
        if cost is None or not cost.is_finite():
            return None
        return cost if cost >= self._minimum else self._minimum


# --- methods: each a check made when the rate is written, and a function from quantities to a cost --------------------

Terms: TypeAlias = tuple[tuple[str, Callable[[int | Decimal, Decimal], Decimal]], ...]  # metric, UnitPrice.add


class Method(NamedTuple):
    check: Callable[[tuple[Component, ...]], None]
    cost: Callable[[Terms, Quantities], Decimal | None]


def _check_one(components: tuple[Component, ...]) -> None:
    if len(components) != 1:
        raise InvalidRate(f"components: expected exactly one, got {len(components)}")


def _check_flat(components: tuple[Component, ...]) -> None:
    _check_one(components)
    if components[0].per != 1:
        raise InvalidRate("per: a flat rate is an amount per event, so per must be 1")


def _check_distinct(components: tuple[Component, ...]) -> None:
    if not components:
        raise InvalidRate("components: expected at least one")
    if len({component.metric for component in components}) < len(components):
        raise InvalidRate("components: a metric appears twice, and would be billed twice")


def _sum(terms: Terms, quantities: Quantities) -> Decimal | None:
    """Quantity × amount ÷ per, added up over the components. An absent metric counts nothing; an event that has none of
    them cannot be priced, and neither can a negative quantity."""
    total = None
    for metric, add in terms:
        quantity = quantities.get(metric)
        if quantity is None:
            continue
        if quantity < 0:
            return None
        total = add(quantity, ZERO if total is None else total)
    return total


def _flat(terms: Terms, quantities: Quantities) -> Decimal | None:
    """The amount, for every event whatever its quantities."""
    ((_, add),) = terms
    return add(1, ZERO)


METHODS: Final = {
    "multiply": Method(_check_one, _sum),
    "sum": Method(_check_distinct, _sum),
    "flat": Method(_check_flat, _flat),
}


# --- which rate, and until when ---------------------------------------------------------------------------------------

_Key: TypeAlias = tuple[str, str | None, str | None, str | None]  # service type, customer, model, provider


class _Timeline(NamedTuple):
    """`rates[i]` answers over [starts[i], starts[i+1]); between the open ends of time, with no gap."""

    starts: list[datetime]
    rates: list[Rate | None]


class RateBook:
    """All rates of one tenant, ready to be asked. Immutable: a change of rates is a new book."""

    __slots__ = ("_timelines",)

    def __init__(self, rates: Iterable[Rate]) -> None:
        by_key: dict[_Key, list[Rate]] = {}
        for rate in rates:
            by_key.setdefault((rate.service_type, rate.customer_id, rate.model, rate.provider), []).append(rate)
        self._timelines = {key: _timeline(same) for key, same in by_key.items()}

    def find(
        self, service_type: str, provider: str | None, model: str | None, customer_id: str | None, at: datetime
    ) -> Rate | None:
        """The most specific rate in force: by customer, then by model, then by provider, then by service type. Among
        equals the one that took effect last, then the highest rate_id, then the highest version."""
        return self.lookup(service_type, provider, model, customer_id, at)[0]

    def lookup(
        self, service_type: str, provider: str | None, model: str | None, customer_id: str | None, at: datetime
    ) -> tuple[Rate | None, datetime, datetime]:
        """The same, with the interval [start, end) around `at` over which the answer, None too, stays the same."""
        at = in_utc(at)
        start, end = EARLIEST, LATEST
        for key in _keys(service_type, provider, model, customer_id):
            timeline = self._timelines.get(key)
            if timeline is None:
                continue
            index = bisect_right(timeline.starts, at) - 1
            start = max(start, timeline.starts[index])
            if index + 1 < len(timeline.starts):
                end = min(end, timeline.starts[index + 1])
            rate = timeline.rates[index]
            if rate is not None:
                return rate, start, end
        return None, start, end


def _keys(service_type: str, provider: str | None, model: str | None, customer_id: str | None) -> Iterator[_Key]:
    """Where a rate may stand, the most specific first. An event that lacks a property has only the general places."""
    choices = ((value, None) if value else (None,) for value in (customer_id, model, provider))
    for customer, a_model, a_provider in product(*choices):
        yield service_type, customer, a_model, a_provider


def _timeline(rates: list[Rate]) -> _Timeline:
    """Who wins when, swept once: rates enter at their start; the best that has not ended is on top of the heap."""
    edges = {EARLIEST}
    for rate in rates:
        edges.update((rate.effective_from, rate.effective_until or LATEST))
    waiting = sorted(rates, key=lambda rate: rate.effective_from, reverse=True)
    heap: list[tuple[int, int, int, int]] = []
    entered: list[Rate] = []
    starts: list[datetime] = []
    winners: list[Rate | None] = []
    for order, start in enumerate(sorted(edges - {LATEST})):
        while waiting and waiting[-1].effective_from <= start:
            rate = waiting.pop()
            heappush(heap, (-order, -rate.rate_id, -rate.version, len(entered)))
            entered.append(rate)
        while heap and (entered[heap[0][-1]].effective_until or LATEST) <= start:
            heappop(heap)
        winner = entered[heap[0][-1]] if heap else None
        if not starts or winner is not winners[-1]:
            starts.append(start)
            winners.append(winner)
    return _Timeline(starts, winners)


def _require_amount(name: str, value: Decimal) -> None:
    if not isinstance(value, Decimal):
        raise InvalidRate(f"{name}: must be a Decimal, not {type(value).__name__}")
    if not value.is_finite() or value < 0:
        raise InvalidRate(f"{name}: must be a finite number and not negative")
    try:
        AMOUNT.plus(value)
    except ArithmeticError as error:
        raise InvalidRate(f"{name}: must be below 10^30 and have at most 89 decimal places") from error

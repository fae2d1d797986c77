"""The shipped price list of language models: `genai_prices`, read once per model and compiled to a few multiplications.

The library finds prices well and applies them slowly (some 50 µs a call, on whatever decimal context the thread has).
So it is asked for the price, never for the cost: `resolve` gives a `CataloguePrice` and the interval of time over which
it is the answer, and its `cost` equals `genai_prices.calc_price(...).total_price` to the last digit. Only the list that
is packaged with the library is read; nothing is fetched.

Metrics have the library's names for usage (`input_audio_tokens`, `web_searches`, ...) except where `METRICS` renames.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from itertools import combinations
from typing import Final, NamedTuple, TypeAlias

import genai_prices
from genai_prices.data import providers as _providers
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)
from genai_prices.units import UnitDef, UnitRegistry
from genai_prices.validation import validate_priced_units

from shared.domain.money import AMOUNT, ZERO, exact_text
from shared.domain.rating import (
    EARLIEST,
    LATEST,
    NOT_AN_AMOUNT,
    ROUNDING,
    BasisComponent,
    PriceBasis,
    Quantities,
    UnitPrice,
    in_utc,
)

# the library's word for a usage -> our metric
METRICS: Final = {"cache_read_tokens": "cached_input_tokens", "output_reasoning_tokens": "reasoning_tokens"}

# How people write the names of providers, beside the library's own ids and names. Exact words only: the library would
# also take anything that contains "anthropic", and so would price a proxy of one's own as if it were Anthropic.
ALIASES: Final = {
    "amazon": "aws",
    "amazon-bedrock": "aws",
    "aws-bedrock": "aws",
    "bedrock": "aws",
    "bedrock-converse": "aws",
    "azure-ai": "azure",
    "azure-openai": "azure",
    "copilot": "github-copilot",
    "deepseek-ai": "deepseek",
    "fireworks-ai": "fireworks",
    "gemini": "google",
    "google-ai-studio": "google",
    "google-gemini": "google",
    "google-genai": "google",
    "google-vertex": "google",
    "google-vertex-ai": "google",
    "vertex": "google",
    "vertex-ai": "google",
    "microsoft-azure": "azure",
    "mistral-ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "novita-ai": "novita",
    "perplexity-ai": "perplexity",
    "together-ai": "together",
    "togetherai": "together",
    "voyage": "voyageai",
    "voyage-ai": "voyageai",
    "xai": "x-ai",
    "zhipu": "zhipuai",
}

# A router names no seller: the model's own name does.
_ROUTERS: Final = frozenset({"", "litellm"})

# The library bills these by rules written in its code, not in its data.
_NOT_BY_DATA: Final = frozenset({("groq", "whisper-large-v3"), ("groq", "whisper-large-v3-turbo")})

# What nearly every event has: an event with no others is priced without looking for the fifty kinds it does not have.
COMMON: Final = frozenset(
    {"input_tokens", "output_tokens", "cached_input_tokens", "cache_write_tokens", "reasoning_tokens"}
)

_REMEMBERED_MODELS: Final = 4096

_Constraint: TypeAlias = StartDateConstraint | TimeOfDateConstraint | None
_Priced: TypeAlias = list[tuple[UnitDef, Decimal | TieredPrices]]


class _Line(NamedTuple):
    """One priced metric. `parts` are metrics inside this one that have a price of their own, on an earlier line.

    Where the metric is absent it counts as 0, unless what is present says it cannot be: one of the `finer` metrics
    inside it, or both metrics of a crossing (cached tokens and audio tokens, where cached audio has its own price).
    """

    metric: str
    parts: tuple[str, ...]
    finer: frozenset[str]
    crossings: tuple[tuple[str, str], ...]
    price: UnitPrice

    def among(self, metrics: frozenset[str]) -> "_Line":
        """This line, for events that have no other metrics than these."""
        crossings = tuple(crossing for crossing in self.crossings if metrics.issuperset(crossing))
        return self._replace(finer=self.finer & metrics, crossings=crossings)


class _Band(NamedTuple):
    """The prices for one range of input length: all of the lines, and those needed for an event of common metrics."""

    per_request: Decimal
    lines: tuple[_Line, ...]
    common: tuple[_Line, ...]


class CataloguePrice:
    """A `Price` from the catalogue. An event with none of the metrics it prices cannot be priced."""

    __slots__ = ("_bands", "_rare", "_starts", "basis", "currency")

    def __init__(self, basis: PriceBasis, starts: tuple[int, ...], bands: tuple[_Band, ...]) -> None:
        self.basis = basis
        self.currency = basis.currency
        self._starts = starts
        self._bands = bands
        self._rare = frozenset[str]().union(*({line.metric} | line.finer for line in bands[0].lines)) - COMMON

    def cost(self, quantities: Quantities) -> Decimal | None:
        try:
            # a tier holds for the whole request as soon as its input is longer than the tier's start
            index = bisect_left(self._starts, quantities.get("input_tokens", 0)) if self._starts else 0
            total, all_lines, common_lines = self._bands[index]
            is_priceable = not all_lines  # listed without a price: free
            unpaid: dict[str, int | Decimal] = {}
            for metric, parts, finer, crossings, price in (
                common_lines if self._rare.isdisjoint(quantities) else all_lines
            ):
                quantity = quantities.get(metric)
                if quantity is None:
                    if finer and any(quantities.get(part) for part in finer):
                        return None
                    if crossings and any(quantities.get(one) and quantities.get(other) for one, other in crossings):
                        return None
                    continue
                is_priceable = True
                for part in parts:
                    if unpaid.get(part):
                        quantity = AMOUNT.subtract(quantity, unpaid[part])
                if quantity < 0:
                    return None
                unpaid[metric] = quantity
                if quantity:
                    total = price.add(quantity, total)
            return total if is_priceable and total.is_finite() else None
        except NOT_AN_AMOUNT:
            return None


class LlmPriceCatalogue:
    """Prices by provider and model. Safe to share: what it remembers is derived from the packaged list alone."""

    def __init__(self) -> None:
        self.version: str = f"genai-prices {genai_prices.__version__}"
        self._registry = UnitRegistry(unit_data)
        self._by_id = {provider.id: provider for provider in _providers}
        self._by_word = {_word(provider.name): provider for provider in _providers}
        self._by_word |= {alias: self._by_id[id_] for alias, id_ in ALIASES.items() if id_ in self._by_id}
        self._by_word |= {_word(provider.id): provider for provider in _providers}
        self._seller = lru_cache(_REMEMBERED_MODELS)(self._find_seller)
        self._prices = lru_cache(_REMEMBERED_MODELS)(self._find_prices)

    def resolve(
        self, provider: str | None, model: str, at: datetime
    ) -> tuple[CataloguePrice | None, datetime, datetime]:
        """The price at `at`, and the interval [start, end) around `at` over which this answer stays the same.

        An empty provider is inferred from the model, as `provider_of` does. A provider that the catalogue does not know
        has no price, and neither has a model that its provider does not list: nothing is guessed.
        """
        at = in_utc(at)
        start, end = EARLIEST, LATEST
        answer = None
        # the last of the prices whose constraint holds; the first if none does
        for constraint, price in reversed(self._prices(provider or "", model)):
            answer = price
            begins, ends, holds = _around(constraint, at)
            start, end = max(start, begins), min(end, ends)
            if holds:
                break
        return answer, start, end

    def provider_of(self, model: str) -> str | None:
        """The catalogue's id of the provider that a model's name tells: by prefix ("azure/gpt-4o") or by its make."""
        seller = self._seller(model)
        return seller.id if seller else None

    def _find_seller(self, model: str) -> Provider | None:
        prefix, slash, _ = model.partition("/")
        if slash and (provider := self._by_word.get(_word(prefix))):
            return provider
        name = model.lower()
        return next((each for each in _providers if each.model_match and each.model_match.is_match(name)), None)

    def _find_prices(self, provider: str, model: str) -> tuple[tuple[_Constraint, CataloguePrice | None], ...]:
        seller = self._seller(model) if _word(provider) in _ROUTERS else self._by_word.get(_word(provider))
        listed = self._listed(seller, model) if seller else None
        if seller is None or listed is None or (seller.id, listed.id) in _NOT_BY_DATA:
            return ()
        prices = [ConditionalPrice(prices=listed.prices)] if isinstance(listed.prices, ModelPrice) else listed.prices
        return tuple((each.constraint, self._compile(seller, listed, each)) for each in prices)

    def _listed(self, seller: Provider, model: str) -> ModelInfo | None:
        """The model by its whole name, else by the name after a prefix that repeats the provider."""
        found = seller.find_model(model, all_providers=_providers)
        prefix, slash, rest = model.partition("/")
        while found is None and slash and self._by_word.get(_word(prefix)) is seller:
            found = seller.find_model(rest, all_providers=_providers)
            prefix, slash, rest = rest.partition("/")
        return found

    def _compile(self, seller: Provider, model: ModelInfo, conditional: ConditionalPrice) -> CataloguePrice | None:
        """The price, or None where the library would refuse to apply it."""
        stored = vars(conditional.prices)
        priced: _Priced = [
            (unit, stored[unit.price_key])
            for unit in self._registry.units.values()
            if stored.get(unit.price_key) is not None
        ]
        starts = tuple(sorted({start for _, price in priced for start, _ in _tiers(price)}))
        try:
            validate_priced_units([unit for unit, _ in priced], self._registry)
        except ValueError:
            return None
        if starts and not any(unit.usage_key == "input_tokens" for unit, _ in priced):
            return None
        bands = tuple(self._band(priced, input_above) for input_above in (None, *starts))
        basis = PriceBasis(
            source="catalogue",
            catalogue=self.version,
            provider=seller.id,
            model=model.id,
            method="nested_sum",
            currency="USD",
            components=tuple(_components(priced)),
            rounding=None if all(line.price.is_exact for band in bands for line in band.lines) else ROUNDING,
            effective_from=_effective_from(conditional.constraint),
            daily_window=_daily_window(conditional.constraint),
        )
        return CataloguePrice(basis, starts, bands)

    def _band(self, priced: _Priced, input_above: int | None) -> _Band:
        per_request = ZERO
        lines: list[_Line] = []
        # the narrowest first, so that a line's parts are worked out before it
        for unit, stored in sorted(priced, key=lambda item: (-len(item[0].dimensions), item[0].usage_key)):
            price = UnitPrice(_in_band(stored, input_above), Decimal(unit.per))
            if unit.usage_key == "requests":
                per_request = price.add(1, per_request)
                continue
            finer = frozenset(_metric(other) for other in self._registry.units.values() if _is_inside(other, unit))
            lines.append(
                _Line(
                    metric=_metric(unit),
                    parts=tuple(line.metric for line in lines if line.metric in finer),
                    finer=finer,
                    crossings=tuple(self._crossings(unit)),
                    price=price,
                )
            )
        return _Band(per_request, tuple(lines), tuple(line.among(COMMON) for line in lines if line.metric in COMMON))

    def _crossings(self, unit: UnitDef) -> Iterator[tuple[str, str]]:
        around = [other for other in self._registry.units.values() if _is_inside(unit, other)]
        for one, other in combinations(around, 2):
            if _is_inside(one, other) or _is_inside(other, one):
                continue
            if {**one.dimensions, **other.dimensions} == unit.dimensions:
                yield _metric(one), _metric(other)


def _word(name: str) -> str:
    """`Azure_OpenAI`, `azure openai` and `azure-openai` are one word."""
    return re.sub(r"[\s_.]+", "-", name.strip().lower())


def _metric(unit: UnitDef) -> str:
    return METRICS.get(unit.usage_key, unit.usage_key)


def _is_inside(part: UnitDef, whole: UnitDef) -> bool:
    """Whether everything counted in `part` is counted in `whole` too: it has all of its dimensions and more."""
    return part is not whole and whole.dimensions.items() <= part.dimensions.items()


def _tiers(price: Decimal | TieredPrices) -> list[tuple[int, Decimal]]:
    return [(tier.start, tier.price) for tier in price.tiers] if isinstance(price, TieredPrices) else []


def _in_band(price: Decimal | TieredPrices, input_above: int | None) -> Decimal:
    """The price where the input is just longer than `input_above`; None is for an input no tier applies to."""
    if isinstance(price, Decimal):
        return price
    reached = [amount for start, amount in _tiers(price) if input_above is not None and start <= input_above]
    return reached[-1] if reached else price.base


def _components(priced: _Priced) -> Iterator[BasisComponent]:
    for unit, price in sorted(priced, key=lambda item: item[0].usage_key):
        base = price.base if isinstance(price, TieredPrices) else price
        yield BasisComponent(_metric(unit), exact_text(base), str(unit.per))
        for start, amount in _tiers(price):
            yield BasisComponent(_metric(unit), exact_text(amount), str(unit.per), above=start)


# --- when a price holds -----------------------------------------------------------------------------------------------


def _around(constraint: _Constraint, at: datetime) -> tuple[datetime, datetime, bool]:
    """The interval around `at` over which the constraint keeps its answer, and the answer."""
    start, end = EARLIEST, LATEST
    if constraint is None:
        return start, end, True
    for edge in _edges(constraint, at):
        if edge <= at:
            start = max(start, edge)
        else:
            end = min(end, edge)
    return start, end, constraint.active(at)


def _edges(constraint: StartDateConstraint | TimeOfDateConstraint, at: datetime) -> Iterator[datetime]:
    if isinstance(constraint, StartDateConstraint):
        yield datetime.combine(constraint.start_date, time(), UTC)
        return
    for days in (-1, 0, 1):
        for edge in (_utc_time(constraint.start_time), _utc_time(constraint.end_time)):
            yield datetime.combine((at + timedelta(days)).date(), edge)


def _utc_time(moment: time) -> time:
    """The time of day in UTC; the library reads one without a zone as UTC."""
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return datetime.combine(datetime(1970, 1, 1, tzinfo=UTC), moment).astimezone(UTC).timetz()


def _effective_from(constraint: _Constraint) -> str | None:
    return constraint.start_date.isoformat() if isinstance(constraint, StartDateConstraint) else None


def _daily_window(constraint: _Constraint) -> str | None:
    if not isinstance(constraint, TimeOfDateConstraint):
        return None
    start, end = _utc_time(constraint.start_time), _utc_time(constraint.end_time)
    return f"{start:%H:%M:%S}/{end:%H:%M:%S} UTC"

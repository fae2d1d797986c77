"""The short form of rates that a service type is registered with: `{unit, calculation_method, rates{}, currency?}`.

* `multiply`: `rates` maps a tier to the amount per unit: `{"standard": 0.001}`.
* `flat`: the same, per event.
* `sum`: `rates` maps metrics to amounts (`{"input_tokens": 0.00001}`), or a tier to such a mapping.

A tier is `standard` or `default` (everything), one of the registered providers, or else the name of a model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from shared.domain.errors import InvalidRequest
from shared.domain.money import currency_code
from shared.domain.rating import EARLIEST, Component, Rate

_EVERYTHING = frozenset({"standard", "default"})


@dataclass(frozen=True, slots=True)
class RateTerms:
    """One rate, before it is given an id and dates."""

    provider: str | None
    model: str | None
    method: str
    components: tuple[Component, ...]
    currency: str


def rate_terms(config: Mapping[str, Any], *, providers: Sequence[str]) -> list[RateTerms]:
    """Raises InvalidRequest, naming the field, for a config that cannot be read."""
    method = config.get("calculation_method", "multiply")
    unit = config.get("unit")
    amounts = config.get("rates")
    currency = config.get("currency", "USD")
    if method not in ("multiply", "sum", "flat"):
        raise _invalid("calculation_method", f"`{method}` is not one of multiply, sum, flat")
    if method == "multiply" and (not isinstance(unit, str) or not unit):
        raise _invalid("unit", "names the metric that is multiplied, e.g. `pages_processed`")
    if not isinstance(amounts, Mapping) or not amounts:
        raise _invalid("rates", 'maps at least one tier to an amount, e.g. {"standard": 0.001}')
    try:
        currency_code(currency)
    except (ValueError, TypeError, AttributeError) as error:
        raise _invalid("currency", str(error)) from error
    try:
        found = [
            RateTerms(*_target(tier, providers), method, components, currency)
            for tier, components in _tiers(method, unit, amounts)
        ]
        for terms in found:
            _require_usable(terms)
    except ValueError as error:
        raise _invalid("rates", str(error)) from error
    if len({(terms.provider, terms.model) for terms in found}) < len(found):
        raise _invalid("rates", "says twice what everything costs: `standard` and `default` are the same tier")
    return found


def _require_usable(terms: RateTerms) -> None:
    """Raises ValueError for what no `Rate` can be made of: once stored, it would fail everyone who loads the rates."""
    Rate(
        rate_id=0,
        version=1,
        service_type="any",
        provider=terms.provider,
        model=terms.model,
        method=terms.method,
        components=terms.components,
        currency=terms.currency,
        effective_from=EARLIEST,
    )


def _tiers(method: str, unit: str | None, amounts: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Component, ...]]]:
    if method == "sum":
        tiers = amounts if all(isinstance(value, Mapping) for value in amounts.values()) else {"standard": amounts}
        for tier, metrics in tiers.items():
            yield tier, tuple(Component(metric, _amount(metric, value)) for metric, value in metrics.items())
    else:
        for tier, value in amounts.items():
            metric = unit if method == "multiply" and unit else "requests"
            yield tier, (Component(metric, _amount(tier, value)),)


def _target(tier: str, providers: Sequence[str]) -> tuple[str | None, str | None]:
    if tier in _EVERYTHING:
        return None, None
    return (tier, None) if tier in providers else (None, tier)


def _amount(name: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _invalid(f"rates.{name}", "is an amount of money, a number")
    return Decimal(value)


def _invalid(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(
        f"billing_config.{name} {message}.",
        errors=[{"field": f"billing_config.{name}", "code": "invalid_billing_config", "message": message}],
    )

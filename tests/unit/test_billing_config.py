"""The short form of rates: what it means, and that nothing unusable gets through it."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.billing_config import RateTerms, rate_terms
from shared.domain.errors import InvalidRequest
from shared.domain.rating import EARLIEST, Component, Rate


def test_multiply_prices_the_unit_for_everything_a_provider_or_a_model() -> None:
    config = {"unit": "predictions", "rates": {"standard": Decimal("0.001"), "acme": 2, "large": Decimal("0.5")}}
    assert rate_terms(config, providers=["acme"]) == [
        RateTerms(None, None, "multiply", (Component("predictions", Decimal("0.001")),), "USD"),
        RateTerms("acme", None, "multiply", (Component("predictions", Decimal(2)),), "USD"),
        RateTerms(None, "large", "multiply", (Component("predictions", Decimal("0.5")),), "USD"),
    ]


def test_flat_prices_the_event_itself() -> None:
    config = {"calculation_method": "flat", "rates": {"default": Decimal("0.25")}, "currency": "EUR"}
    assert rate_terms(config, providers=[]) == [
        RateTerms(None, None, "flat", (Component("requests", Decimal("0.25")),), "EUR")
    ]


def test_sum_maps_metrics_to_amounts_for_everything_or_for_each_tier() -> None:
    metrics = {"input_tokens": Decimal("0.00001"), "output_tokens": Decimal("0.00003")}
    parts = tuple(Component(name, amount) for name, amount in metrics.items())
    for rates in (metrics, {"standard": metrics}):
        terms = rate_terms({"calculation_method": "sum", "rates": rates}, providers=[])
        assert terms == [RateTerms(None, None, "sum", parts, "USD")]


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "unit"),
        ({"unit": "pages"}, "rates"),
        ({"unit": "pages", "rates": {}}, "rates"),
        ({"unit": "pages", "rates": []}, "rates"),
        ({"unit": "", "rates": {"standard": 1}}, "unit"),
        ({"unit": 5, "rates": {"standard": 1}}, "unit"),
        ({"unit": "pages", "calculation_method": "eval", "rates": {"standard": 1}}, "calculation_method"),
        ({"unit": "pages", "rates": {"standard": "1"}}, "rates.standard"),
        ({"unit": "pages", "rates": {"standard": True}}, "rates.standard"),
        ({"unit": "pages", "rates": {"standard": None}}, "rates.standard"),
        ({"unit": "pages", "rates": {"standard": 0.1}}, "rates.standard"),
        ({"unit": "pages", "rates": {"standard": Decimal(-1)}}, "rates"),
        ({"unit": "pages", "rates": {"standard": Decimal("NaN")}}, "rates"),
        ({"unit": "pages", "rates": {"standard": Decimal("Infinity")}}, "rates"),
        ({"unit": "pages", "rates": {"standard": Decimal("1E+999999")}}, "rates"),
        ({"unit": "pages", "rates": {"standard": Decimal("1E-999999")}}, "rates"),
        ({"unit": "pages", "rates": {"standard": 1, "default": 2}}, "rates"),
        ({"unit": "pages", "rates": {"": 1}}, "rates"),
        ({"unit": "pages", "rates": {"standard": 1}, "currency": "usd"}, "currency"),
        ({"unit": "pages", "rates": {"standard": 1}, "currency": None}, "currency"),
        ({"calculation_method": "sum", "rates": {"standard": {}}}, "rates"),
        ({"calculation_method": "sum", "rates": {"": 1}}, "rates"),
        ({"calculation_method": "sum", "rates": {"a": {"pages": 1}, "b": 2}}, "rates.a"),
    ],
)
def test_an_unusable_config_is_refused_with_its_field(config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        rate_terms(config, providers=[])
    (item,) = refused.value.errors
    assert item["field"] == f"billing_config.{field}"
    assert item["code"] == "invalid_billing_config"
    assert item["message"]


amounts = st.one_of(st.integers(), st.decimals(), st.none(), st.booleans(), st.text(max_size=3))
names = st.sampled_from(["", "standard", "default", "acme", "gpt", "pages"])
configs = st.fixed_dictionaries(
    {},
    optional={
        "unit": st.one_of(names, st.none()),
        "calculation_method": st.sampled_from(["multiply", "sum", "flat", "volume"]),
        "currency": st.sampled_from(["USD", "EUR", "", "xxx"]),
        "rates": st.dictionaries(names, st.one_of(amounts, st.dictionaries(names, amounts, max_size=3)), max_size=3),
    },
)


@given(configs)
def test_whatever_is_accepted_can_be_loaded_as_rates_that_do_not_contradict_each_other(config: dict[str, Any]) -> None:
    """A stored rate that cannot be loaded would stop every gateway and processor from reading the registry."""
    try:
        terms = rate_terms(config, providers=["acme"])
    except InvalidRequest:
        return
    assert terms
    assert len({(item.provider, item.model) for item in terms}) == len(terms)
    for item in terms:
        stored = tuple(
            Component(part.metric, Decimal(str(part.amount)), Decimal(str(part.per))) for part in item.components
        )
        rate = Rate(
            rate_id=1,
            version=1,
            service_type="own",
            provider=item.provider,
            model=item.model,
            method=item.method,
            components=stored,
            currency=item.currency,
            effective_from=EARLIEST,
        )
        assert rate.price.currency == item.currency

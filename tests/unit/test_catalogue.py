"""The price list of models: the library's own answers are the oracle, to the last digit."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Context, Decimal, localcontext
from random import Random

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data import providers
from genai_prices.data_units import unit_data
from genai_prices.types import ConditionalPrice, ModelInfo, ModelPrice, Provider, StartDateConstraint, TieredPrices
from genai_prices.units import UnitRegistry

from shared.catalogue.llm_prices import ALIASES, METRICS, CataloguePrice, LlmPriceCatalogue
from shared.domain.rating import EARLIEST, LATEST, Price

CATALOGUE = LlmPriceCatalogue()
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
THEIR_NAME = {ours: theirs for theirs, ours in METRICS.items()}


def words(clause: object) -> Iterator[str]:
    """The strings a model's matching rule compares names with: each may be a name for it."""
    for value in vars(clause).values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                yield each
            else:
                yield from words(each)


def name_of(provider: Provider, model: ModelInfo) -> str | None:
    """A name that means this very model; some ids in the list mean another."""
    names = (model.id, *words(model.match))
    return next((name for name in names if provider.find_model(name, all_providers=providers) is model), None)


# The library has rules in its code for the two whisper models of groq, which the catalogue therefore leaves out.
MODELS = [
    (provider.id, name, model)
    for provider in providers
    for model in provider.models
    if (name := name_of(provider, model)) and not (provider.id == "groq" and "whisper" in model.id)
]


def price_of(provider: str | None, model: str, at: datetime = NOW) -> CataloguePrice:
    price, start, end = CATALOGUE.resolve(provider, model, at)
    assert price is not None, (provider, model)
    assert start <= at < end
    return price


def oracle(provider: str, model: str, quantities: Mapping[str, int | Decimal], at: datetime = NOW) -> Decimal | None:
    """What the library says, asked directly; None where it refuses the usage."""
    usage = {THEIR_NAME.get(metric, metric): quantity for metric, quantity in quantities.items()}
    try:
        return calc_price(Usage(**usage), model, provider_id=provider, genai_request_timestamp=at).total_price
    except ValueError:
        return None


def prices_in(model: ModelInfo) -> list[ConditionalPrice]:
    return [ConditionalPrice(prices=model.prices)] if isinstance(model.prices, ModelPrice) else model.prices


def tier_starts(model: ModelInfo) -> set[int]:
    stored = (price for each in prices_in(model) for price in vars(each.prices).values())
    return {tier.start for price in stored if isinstance(price, TieredPrices) for tier in price.tiers}


def random_usage(random: Random, model: ModelInfo) -> dict[str, int | Decimal]:
    tokens = random.choice([0, 1, 150, random.randrange(10_000), random.randrange(3_000_000)])
    edges = [start + step for start in tier_starts(model) for step in (-1, 0, 1) if start + step >= 0]
    if edges and random.random() < 0.5:
        tokens = random.choice(edges)
    usage: dict[str, int | Decimal] = {"input_tokens": tokens, "output_tokens": random.randrange(100_000)}
    limit = tokens + 10 if random.random() < 0.1 else tokens  # now and then more cached than there was
    if random.random() < 0.5:
        usage["cached_input_tokens"] = random.randint(0, limit)
    if random.random() < 0.3:
        usage["cache_write_tokens"] = random.randint(0, max(0, limit - int(usage.get("cached_input_tokens", 0))))
    if random.random() < 0.2:
        usage["reasoning_tokens"] = random.randint(0, int(usage["output_tokens"]))
    if random.random() < 0.05:
        del usage[random.choice(list(usage))]
    return usage


# --- the library agrees -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "model", "expected"), [("openai", "gpt-4", "0.0090"), ("openai", "gpt-4o", "0.001125")]
)
def test_the_published_cases(provider: str, model: str, expected: str) -> None:
    price: Price = price_of(provider, model)
    assert price.cost({"input_tokens": 150, "output_tokens": 75}) == Decimal(expected)
    assert price.currency == "USD"


def agree(random: Random, provider: str, name: str, usage: dict[str, int | Decimal]) -> bool:
    at = NOW + timedelta(seconds=random.randrange(-3 * 365 * 86_400, 86_400))
    price = price_of(provider, name, at)
    answer, expected = price.cost(usage), oracle(provider, name, usage, at)
    if answer is None and expected == 0:  # the library calls it free; it is another kind of usage than the priced ones
        assert not {component.metric for component in price.basis.components} & usage.keys()
    elif price.basis.rounding is None:
        assert answer == expected, (provider, name, usage, at)
    else:
        with localcontext(Context(prec=60)):
            expected = oracle(provider, name, usage, at)
            assert (answer is None) == (expected is None)
            if answer is not None and expected is not None:
                assert abs(answer - expected) <= Decimal("2e-30")
    return answer is not None


def test_every_model_costs_what_the_library_says() -> None:
    random = Random(20_261_101)
    priced = {
        (provider, name)
        for provider, name, model in MODELS
        for _ in range(3)
        if agree(random, provider, name, random_usage(random, model))
    }
    assert len(priced) > 2000
    assert len({provider for provider, _ in priced}) > 30


def test_tiers_and_dated_prices_cost_what_the_library_says() -> None:
    random = Random(7)
    special = [each for each in MODELS if tier_starts(each[2]) or len(prices_in(each[2])) > 1]
    assert len(special) > 200
    agreed = sum(agree(random, p, name, random_usage(random, model)) for p, name, model in special for _ in range(6))
    assert agreed > 1000


def test_rarer_kinds_of_usage_cost_what_the_library_says() -> None:
    """Audio, images, searches, seconds: what is priced and what is not, some of it absent, which may be refused."""
    random = Random(11)
    units = {unit.price_key: unit.usage_key for unit in UnitRegistry(unit_data).units.values()}
    usual = {"input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok"}
    models = agreed = 0
    for provider, name, model in MODELS:
        stored = {key for each in prices_in(model) for key, price in vars(each.prices).items() if price is not None}
        if not stored - usual:
            continue
        models += 1
        for _ in range(6):
            usage = random_usage(random, model)
            for key in [*sorted(stored), *random.sample(sorted(units), random.choice([0, 0, 4]))]:
                if units[key] != "requests" and random.random() < 0.5:
                    usage.setdefault(METRICS.get(units[key], units[key]), random.choice([0, 1, random.randrange(200)]))
            agreed += agree(random, provider, name, usage)
    assert models > 100
    assert agreed > 300


# --- tokens inside tokens ---------------------------------------------------------------------------------------------


def test_cached_tokens_are_part_of_the_input() -> None:
    price = price_of("openai", "gpt-4o")  # 2.5, cached 1.25, output 10
    usage = {"input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 0}
    assert price.cost(usage) == Decimal("0.002") == oracle("openai", "gpt-4o", usage)
    assert price.cost(usage | {"reasoning_tokens": 0}) == Decimal("0.002")
    assert price.cost(usage | {"input_tokens": Decimal("1000.0")}) == Decimal("0.002")


def test_cached_tokens_without_a_price_of_their_own_pay_as_input() -> None:
    usage = {"input_tokens": 150, "cached_input_tokens": 100, "output_tokens": 75, "reasoning_tokens": 50}
    assert price_of("openai", "gpt-4").cost(usage) == Decimal("0.0090") == oracle("openai", "gpt-4", usage)


@pytest.mark.parametrize(
    "usage",
    [
        {"input_tokens": 10, "cached_input_tokens": 11, "output_tokens": 1},
        {"cached_input_tokens": 11, "output_tokens": 1},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 10, "cached_input_tokens": -1, "output_tokens": 1},
        {"input_tokens": Decimal("NaN"), "output_tokens": 1},
        {"input_tokens": Decimal("Infinity"), "output_tokens": 1},
    ],
)
def test_what_the_library_refuses_is_unpriced(usage: dict[str, int | Decimal]) -> None:
    assert oracle("openai", "gpt-4o", usage) is None
    assert price_of("openai", "gpt-4o").cost(usage) is None
    assert oracle("anthropic", "claude-sonnet-4-5", usage) is None
    assert price_of("anthropic", "claude-sonnet-4-5").cost(usage) is None


def test_no_usage_costs_nothing_and_other_usage_is_unpriced() -> None:
    price = price_of("openai", "gpt-4o")
    assert price.cost({"input_tokens": 0, "output_tokens": 0}) == 0
    assert price.cost({"input_tokens": 5}) == Decimal("0.0000125")
    assert price.cost({"pages_processed": 3}) is None
    assert price.cost({}) is None


def test_a_model_listed_without_a_price_is_free() -> None:
    price = price_of("mistral", "mistral-nemo:free")
    assert price.cost({"input_tokens": 5, "output_tokens": 5}) == 0
    assert price.basis.components == ()


def test_a_price_per_request() -> None:
    usage = {"input_tokens": 0, "output_tokens": 0}
    price = price_of("perplexity", "sonar-pro")
    assert price.cost(usage) == oracle("perplexity", "sonar-pro", usage) == Decimal("0.014")
    assert price.cost({}) is None


def test_the_threads_context_has_no_say() -> None:
    usage = {"input_tokens": 123_456_789, "output_tokens": 987_654_321}
    expected = price_of("openai", "gpt-4o").cost(usage)
    with localcontext() as context:
        context.prec = 3
        assert price_of("openai", "gpt-4o").cost(usage) == expected
    with pytest.raises(TypeError):
        price_of("openai", "gpt-4o").cost({"input_tokens": 0.5})  # type: ignore[dict-item]


# --- tiers and time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "expected"), [(200_000, "0.25"), (200_001, "0.5000025"), (199_999, "0.24999875")])
def test_a_tier_begins_one_above_its_start_and_holds_for_every_token(tokens: int, expected: str) -> None:
    price = price_of("google", "gemini-2.5-pro")
    usage = {"input_tokens": tokens, "output_tokens": 0}
    assert price.cost(usage) == Decimal(expected) == oracle("google", "gemini-2.5-pro", usage)


def test_every_tier_of_a_model_with_several() -> None:
    price = price_of("openrouter", "qwen/qwen3-coder-flash")
    for start in (0, 32_000, 128_000):
        for tokens in (max(start - 1, 0), start, start + 1):
            usage = {"input_tokens": tokens, "output_tokens": 1000, "cached_input_tokens": tokens // 2}
            assert price.cost(usage) == oracle("openrouter", "qwen/qwen3-coder-flash", usage)


USAGE: dict[str, int | Decimal] = {"input_tokens": 1234, "output_tokens": 567, "cached_input_tokens": 89}


def test_the_answer_holds_over_its_interval_and_changes_at_its_ends() -> None:
    """Walks every dated model from edge to edge: at and just before each edge the library says the same."""
    edges = 0
    for provider, name, model in MODELS:
        if len(prices_in(model)) < 2:
            continue
        at = datetime(2026, 9, 8, tzinfo=UTC)
        for _ in range(25):
            price, start, end = CATALOGUE.resolve(provider, name, at)
            assert price is not None
            assert start <= at < end
            middle = at + (min(end, at + timedelta(days=2)) - at) / 2
            for moment in (at, middle, end - timedelta(microseconds=1)):
                assert (price.cost(USAGE) or 0) == oracle(provider, name, USAGE, moment), (provider, name)
            if end == LATEST:
                break
            at = end
            edges += 1
    assert edges > 100


def test_a_dated_price_starts_at_midnight_utc() -> None:
    dated = [
        (provider, name)
        for provider, name, model in MODELS
        if [type(each.constraint) for each in prices_in(model)] == [type(None), StartDateConstraint]
    ]
    assert len(dated) > 50
    for provider, name in dated:
        old, start, change = CATALOGUE.resolve(provider, name, datetime(2020, 1, 1, tzinfo=UTC))
        assert (start, change.time(), change.tzinfo) == (EARLIEST, datetime.min.time(), UTC)
        new, start, end = CATALOGUE.resolve(provider, name, change)
        assert (start, end) == (change, LATEST)
        assert old is not None
        assert new is not None
        assert old.basis.effective_from is None
        assert new.basis.effective_from == change.date().isoformat()


def test_a_price_by_time_of_day() -> None:
    east = timezone(timedelta(hours=8))
    peak, start, end = CATALOGUE.resolve("deepseek", "deepseek-chat", datetime(2026, 3, 1, 16, 29, 59, tzinfo=UTC))
    assert (start, end) == (datetime(2026, 3, 1, 0, 30, tzinfo=UTC), datetime(2026, 3, 1, 16, 30, tzinfo=UTC))
    low, start, end = CATALOGUE.resolve("deepseek", "deepseek-chat", datetime(2026, 3, 2, 0, 30, tzinfo=east))
    assert (start, end) == (datetime(2026, 3, 1, 16, 30, tzinfo=UTC), datetime(2026, 3, 2, 0, 30, tzinfo=UTC))
    assert peak is not None
    assert low is not None
    assert peak.basis.daily_window == "00:30:00/16:30:00 UTC"
    assert low.basis.daily_window is None
    assert (low.cost(USAGE) or 0) < (peak.cost(USAGE) or 0)
    again, _, _ = CATALOGUE.resolve("deepseek", "deepseek-chat", datetime(2026, 5, 1, 20, tzinfo=UTC))
    assert again is low


def test_a_time_without_a_zone_is_no_time() -> None:
    with pytest.raises(ValueError, match="time zone"):
        CATALOGUE.resolve("openai", "gpt-4o", datetime(2026, 1, 1))  # noqa: DTZ001


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "model", "expected"),
    [
        ("openai", "gpt-4o", "openai"),
        ("OpenAI", "GPT-4o", "openai"),
        ("openai", "openai/gpt-4o", "openai"),
        (" Azure OpenAI ", "gpt-4o", "azure"),
        ("azure_openai", "gpt-4o", "azure"),
        ("azure", "azure/gpt-4o", "azure"),
        ("aws", "anthropic.claude-3-5-sonnet-20241022-v2:0", "aws"),
        ("bedrock", "us.anthropic.claude-3-5-sonnet-20241022-v2:0", "aws"),
        ("aws_bedrock", "bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0", "aws"),
        ("gemini", "gemini-2.5-pro", "google"),
        ("vertex_ai", "vertex_ai/gemini-2.5-pro", "google"),
        ("google", "claude-sonnet-4-5", "google"),
        ("xai", "grok-3", "x-ai"),
        ("X AI", "grok-3", "x-ai"),
        ("mistralai", "mistral-large-latest", "mistral"),
        ("together_ai", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "together"),
        ("openrouter", "openai/gpt-4o", "openrouter"),
        ("openrouter", "openrouter/openai/gpt-4o", "openrouter"),
        ("litellm", "azure/gpt-4o", "azure"),
        (None, "gpt-4o", "openai"),
        ("", "claude-sonnet-4-5", "anthropic"),
        ("", "anthropic/claude-sonnet-4-5", "anthropic"),
        (None, "openrouter/anthropic/claude-sonnet-4", "openrouter"),
        (None, "gemini-2.5-pro", "google"),
    ],
)
def test_names_as_people_write_them(written: str | None, model: str, expected: str) -> None:
    assert price_of(written, model).basis.provider == expected


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("my-anthropic-proxy", "claude-sonnet-4-5"),
        ("openai-compatible", "gpt-4o"),
        ("internal", "openai/gpt-4o"),
        ("openai", "no-such-model"),
        ("openai", "anthropic/claude-sonnet-4-5"),
        (None, "my-own-llm"),
        (None, ""),
        ("openai", ""),
        ("openai", "/"),
        ("groq", "whisper-large-v3"),
    ],
)
def test_what_the_catalogue_does_not_know_is_not_guessed(provider: str | None, model: str) -> None:
    assert CATALOGUE.resolve(provider, model, NOW) == (None, EARLIEST, LATEST)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("o3-mini", "openai"),
        ("claude-3-5-sonnet-latest", "anthropic"),
        ("gemini-2.5-flash", "google"),
        ("grok-3", "x-ai"),
        ("azure/gpt-4o", "azure"),
        ("bedrock/anthropic.claude-3-haiku", "aws"),
        ("my-own-llm", None),
        ("", None),
    ],
)
def test_the_provider_a_model_tells(model: str, provider: str | None) -> None:
    assert CATALOGUE.provider_of(model) == provider


def test_every_alias_leads_somewhere_and_hides_no_provider() -> None:
    ids = {provider.id for provider in providers}
    assert set(ALIASES.values()) <= ids
    assert not set(ALIASES) & ids


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_the_basis_says_what_was_used() -> None:
    basis = price_of("vertex_ai", "gemini-2.5-pro").basis
    kept = json.loads(basis.as_json())
    assert kept["catalogue"] == CATALOGUE.version
    assert (kept["source"], kept["provider"], kept["model"]) == ("catalogue", "google", "gemini-2.5-pro")
    assert (kept["method"], kept["currency"]) == ("nested_sum", "USD")
    assert {"metric": "input_tokens", "amount": "1.25", "per": "1000000"} in kept["components"]
    assert {"metric": "input_tokens", "amount": "2.5", "per": "1000000", "above": 200_000} in kept["components"]
    assert "rounding" not in kept


def test_one_price_has_one_basis_in_any_catalogue_under_any_name() -> None:
    mine, theirs = price_of("gemini", "gemini-2.5-pro"), LlmPriceCatalogue().resolve("google", "gemini-2.5-pro", NOW)[0]
    assert theirs is not None
    assert mine.basis == theirs.basis
    assert hash(mine.basis) == hash(theirs.basis)
    assert price_of("gemini", "gemini-2.5-pro") is mine

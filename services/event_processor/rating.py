"""Which price an event has: the tenant's rates first, then the shipped catalogue of LLM prices.

Answers are remembered per (tenant, service type, provider, model, customer) for the interval of time over which they
hold, so that a price is resolved once and not per event.
"""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from shared.catalogue.llm_prices import LlmPriceCatalogue
from shared.domain.rating import Price
from shared.storage.registry import Registry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_REMEMBERED = 100_000

Target = tuple[int, str, str, str, str]  # tenant, service type, provider, model, customer


class Answer(NamedTuple):
    """The price over [start, end), microseconds since the epoch; None: unpriced. `bills_failed`: also failed events."""

    price: Price | None
    bills_failed: bool
    start: int
    end: int


class Rater:
    def __init__(self, registry: Registry, catalogue: LlmPriceCatalogue) -> None:
        self._registry = registry
        self._catalogue = catalogue
        self._remembered: dict[Target, Answer] = {}

    def find(self, target: Target, at: int) -> Answer:
        """The price in force at `at`, microseconds since the epoch."""
        answer = self._remembered.get(target)
        if answer is not None and answer.start <= at < answer.end:
            return answer
        answer = self._resolve(target, at)
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[target] = answer
        return answer

    def _resolve(self, target: Target, at: int) -> Answer:
        tenant, service_type, provider, model, customer_id = target
        moment = _EPOCH + timedelta(microseconds=at)
        start, end = _EPOCH, datetime.max.replace(tzinfo=UTC)
        if book := self._registry.rate_books.get(tenant):
            rate, start, end = book.lookup(service_type, provider, model, customer_id, moment)
            if rate is not None:
                return Answer(rate.price, rate.bills_failed, _microseconds(start), _microseconds(end))
        price: Price | None = None
        if service_type == "llm_service" and model:
            price, since, until = self._catalogue.resolve(provider, model, moment)
            start, end = max(start, since), min(end, until or end)
        return Answer(price, bills_failed=False, start=_microseconds(start), end=_microseconds(end))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)

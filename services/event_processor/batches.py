"""From envelopes to columns and rows: enrich, rate, and sum up a whole batch, without touching anything outside.

This is the hot path: one pass over the events, and no await, query, log line or metric in it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec

from services.event_processor.enrichment import enrich
from services.event_processor.rating import Rater
from shared.contracts.envelope import Envelope, Event, Quantity
from shared.domain.identity import event_key
from shared.domain.money import exact_context
from shared.domain.periods import QUARTER_HOUR_MICROSECONDS
from shared.domain.rating import PriceBasis
from shared.domain.rollups import COST, ERRORS, EVENTS, UNPRICED
from shared.storage.event_store import UUID, Deltas, Identities, Row
from shared.storage.registry import Registry
from shared.storage.vocabulary import DimensionKey, Words

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = Decimal(0)
_to_json = msgspec.json.Encoder(decimal_format="number").encode


class Batch:
    """The events of some envelopes, enriched and rated, as columns of the same length.

    `dimensions`, `prices` and `metric_names` are the words that must be known before `rows` and `sum_up` are asked.
    """

    def __init__(
        self,
        envelopes: Sequence[Envelope],
        *,
        registry: Registry,
        rater: Rater,
        provider_of: Callable[[str], str],
    ) -> None:
        self.events: list[Event] = [event for envelope in envelopes for event in envelope.events]
        with exact_context():
            for event in self.events:
                enrich(event, provider_of)
        self.metric_names = {EVENTS, ERRORS, UNPRICED, COST}.union(*[event.metrics for event in self.events])

        keys = [event_key(event.source, event.event_id) for event in self.events]
        self._stated_ids = [
            None if is_own_key else event.event_id  # None where the key says it all
            for event, (_, is_own_key) in zip(self.events, keys, strict=True)
        ]
        self.identities = Identities(
            tenant=[envelope.tenant for envelope in envelopes for _ in envelope.events],
            event_key=[UUID(key) for key, _ in keys],
            fingerprint=[event.fingerprint for event in self.events],
            receipt=[envelope.receipt for envelope in envelopes for _ in envelope.events],
            occurred_at=[event.occurred_at for event in self.events],
            received_at=[envelope.received_at for envelope in envelopes for _ in envelope.events],
            is_timestamped=[event.is_timestamped for event in self.events],
        )
        self._occurred_at = [_EPOCH + timedelta(microseconds=event.occurred_at) for event in self.events]
        received = [(_EPOCH + timedelta(microseconds=envelope.received_at), envelope) for envelope in envelopes]
        self._received_at = [received_at for received_at, envelope in received for _ in envelope.events]

        self.dimensions: dict[DimensionKey, int] = {}  # each distinct set, and its place among them
        self.prices: list[PriceBasis] = []  # each distinct basis
        self._places_of_prices: dict[int, int] = {}  # by object identity: hashing a basis costs more than a whole row
        self._dimension_places = [0] * len(self.events)
        self._price_places: list[int | None] = [None] * len(self.events)
        self._costs: list[Decimal | None] = [None] * len(self.events)
        self._quantities: list[Quantity] = [0] * len(self.events)
        self._dimension_ids: list[int] = []
        with exact_context():
            self._rate(registry, rater)

    def __len__(self) -> int:
        return len(self.events)

    @property
    def days(self) -> set[date]:
        """The UTC days the events fall on: the partitions they need."""
        return {moment.date() for moment in self._occurred_at}

    def _rate(self, registry: Registry, rater: Rater) -> None:
        """Cost, quantity and dimension set of every event: looked up once for all events that share their words."""
        alike: dict[tuple[int, str, str, str, str, str, str, str], list[int]] = {}
        for i, (tenant, event) in enumerate(zip(self.identities.tenant, self.events, strict=True)):
            words = (
                tenant,
                event.service_type,
                event.service_provider,
                event.model,
                event.customer_id,
                event.event_type,
                event.job_type,
                event.status,
            )
            alike.setdefault(words, []).append(i)
        for words, members in alike.items():
            tenant, service_type, provider, model, customer_id, event_type, job_type, status = words
            target = (tenant, service_type, provider, model, customer_id)
            kind = registry.service_type(tenant, service_type)
            quantity_name = "" if kind is None or kind.quantity is None else kind.quantity
            answer = rater.find(target, self.events[members[0]].occurred_at)
            for i in members:
                event = self.events[i]
                if not answer.start <= event.occurred_at < answer.end:
                    answer = rater.find(target, event.occurred_at)
                price, cost, currency = answer.price, None, ""
                if status == "failed" and not answer.bills_failed:
                    cost = _ZERO  # stored and counted as an error, not billed
                elif price is not None:
                    cost = price.cost(event.metrics)
                    if cost is not None:
                        currency = price.currency
                        self._price_places[i] = self._place_of(price.basis)
                self._costs[i] = cost
                self._quantities[i] = event.metrics.get(quantity_name, 0)
                dimension = (tenant, service_type, provider, model, event_type, customer_id, job_type, status, currency)
                self._dimension_places[i] = self.dimensions.setdefault(dimension, len(self.dimensions))

    def _place_of(self, basis: PriceBasis) -> int:
        place = self._places_of_prices.get(id(basis))
        if place is None:
            place = self._places_of_prices[id(basis)] = len(self.prices)
            self.prices.append(basis)
        return place

    def rows(self, vocabulary: Words) -> list[Row]:
        """One tuple per event, in EVENT_COLUMNS order."""
        self._dimension_ids = [vocabulary.dimensions[key] for key in self.dimensions]
        dimension_ids = self._dimension_ids
        price_ids = [vocabulary.prices[basis] for basis in self.prices]
        return [
            (
                tenant,
                dimension_ids[dimension],
                None if price is None else price_ids[price],
                occurred_at,
                received_at,
                key,
                stated_id,
                event.source or None,
                event.user_id,
                cost,
                _to_json(event.metrics).decode(),
                event.metadata or None,
                event.tags or None,
                event.session_id,
                event.request_id,
                event.job_id,
                event.run_id,
                event.span_id,
                event.parent_span_id,
                event.section,
                event.error_message,
                event.service_version,
            )
            for event, tenant, dimension, price, occurred_at, received_at, key, stated_id, cost in zip(
                self.events,
                self.identities.tenant,
                self._dimension_places,
                self._price_places,
                self._occurred_at,
                self._received_at,
                self.identities.event_key,
                self._stated_ids,
                self._costs,
                strict=True,
            )
        ]

    def sum_up(self, indexes: Sequence[int], *, vocabulary: Words) -> Deltas:
        """Sums of the events at `indexes`, by dimension set and quarter hour, and the same by user. After `rows`."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i in indexes:
            at = self.events[i].occurred_at
            groups.setdefault((self._dimension_places[i], at - at % QUARTER_HOUR_MICROSECONDS), []).append(i)
        metric_of = vocabulary.metrics
        rollup: list[Row] = []
        user: list[Row] = []
        with exact_context():
            for (dimension, bucket), members in groups.items():
                dimension_id = self._dimension_ids[dimension]
                first = members[0]
                tenant = self.identities.tenant[first]
                bucket_at = _EPOCH + timedelta(microseconds=bucket)
                is_failed = self.events[first].status == "failed"  # the status is part of the dimension set
                prefix = (tenant, dimension_id, bucket_at)

                values: dict[str, list[Quantity]] = {}
                for i in members:
                    for name, quantity in self.events[i].metrics.items():
                        values.setdefault(name, []).append(quantity)
                costs = [cost for i in members if (cost := self._costs[i]) is not None]
                if costs and self._price_places[first] is not None:
                    values[COST] = list(costs)
                for name, found in values.items():
                    rollup.append((*prefix, metric_of[name], len(found), sum(found), min(found), max(found)))
                count = len(members)
                unpriced = count - len(costs)
                rollup.append((*prefix, metric_of[EVENTS], count, count, None, None))
                if is_failed:
                    rollup.append((*prefix, metric_of[ERRORS], count, count, None, None))
                if unpriced:
                    rollup.append((*prefix, metric_of[UNPRICED], unpriced, unpriced, None, None))
                user.extend((*prefix, *row) for row in self._by_user(members, is_failed=is_failed))
        return Deltas(rollup, user)

    def _by_user(self, members: Sequence[int], *, is_failed: bool) -> list[Row]:
        """(user_id, events, errors, unpriced, quantity, cost, charge) for each user among the members."""
        by_user: dict[str, list[int]] = {}
        for i in members:
            by_user.setdefault(self.events[i].user_id, []).append(i)
        rows: list[Row] = []
        for user_id, mine in by_user.items():
            costs = [cost for i in mine if (cost := self._costs[i]) is not None]
            quantity = sum([self._quantities[i] for i in mine])
            count = len(mine)
            rows.append(
                (user_id, count, count if is_failed else 0, count - len(costs), quantity, sum(costs, _ZERO), _ZERO)
            )
        return rows

    def describe(self, i: int) -> tuple[str, str, str]:
        """(event_id, source, JSON body) of the event at `i`, as a conflict is listed."""
        event = self.events[i]
        body = msgspec.structs.asdict(event)
        body["metadata"] = msgspec.Raw((event.metadata or "{}").encode())
        return event.event_id, event.source, _to_json(body).decode()

    def unpriced_among(self, indexes: Sequence[int]) -> int:
        """How many of the events at `indexes` have no price."""
        return sum(1 for i in indexes if self._costs[i] is None)

"""Usage reports: the events themselves, and their sums by period, by service and by whatever costs are asked by."""

from collections import defaultdict
from typing import Any

from services.query_service import answers
from services.query_service.cursors import decode_cursor, encode_cursor
from services.query_service.planner import Asked, Caller, asked, usage_filters
from services.query_service.schemas.parameters import (
    AggregateParameters,
    CostParameters,
    EventParameters,
    FilterParameters,
)
from shared.domain.errors import InvalidRequest
from shared.domain.rollups import CHARGE, COST, ERRORS, EVENTS, UNPRICED
from shared.domain.windows import Period, buckets
from shared.storage.usage_queries import Dimension, Position, UsageQueries, UsageSums

Answer = dict[str, Any]


class UsageReports:
    def __init__(self, queries: UsageQueries) -> None:
        self._queries = queries

    async def events(self, parameters: EventParameters, caller: Caller) -> Answer:
        if parameters.cursor is not None and parameters.offset:
            message = "cannot be combined with cursor; send one of them"
            raise InvalidRequest(
                f"offset {message}.", errors=[{"field": "offset", "code": "ambiguous_page", "message": message}]
            )
        question = asked(parameters, caller)
        page = await self._queries.list_events(
            caller.scope,
            question.window,
            filters=usage_filters(parameters, caller),
            limit=parameters.limit,
            offset=parameters.offset,
            after=None if parameters.cursor is None else decode_cursor(parameters.cursor),
        )
        next_cursor = None
        if page.has_more:
            last = page.events[-1]
            next_cursor = encode_cursor(Position(last.occurred_at, last.event_key))
        return {
            "events": [answers.event(row, caller, include_billing=parameters.include_billing) for row in page.events],
            "total_count": page.total_count,
            "limit": parameters.limit,
            "offset": parameters.offset,
            "has_more": page.has_more,
            "next_cursor": next_cursor,
            **answers.window(question),
        }

    async def aggregate(self, parameters: AggregateParameters, caller: Caller) -> Answer:
        question = asked(parameters, caller, period=parameters.period)
        periods = buckets(question.window, parameters.period, question.zone)
        found = await self._queries.sums(
            caller.scope, periods, filters=usage_filters(parameters, caller), period=parameters.period
        )
        by_bucket = {item.bucket: item.usage for item in found}
        return {
            "period": parameters.period,
            **answers.window(question),
            "buckets": [
                {
                    "start": bucket.start,
                    "end": bucket.end,
                    **answers.usage_with_metrics(by_bucket.get(i, UsageSums()), caller),
                }
                for i, bucket in enumerate(periods)
            ],
            "totals": answers.usage_with_metrics(answers.total(by_bucket.values()), caller),
        }

    async def by_service(self, parameters: FilterParameters, caller: Caller) -> Answer:
        question = asked(parameters, caller)
        found = await self._queries.sums(
            caller.scope,
            [question.window],
            filters=usage_filters(parameters, caller),
            group_by=(Dimension.SERVICE_TYPE, Dimension.SERVICE_PROVIDER, Dimension.MODEL),
        )
        services: dict[tuple[str, str], UsageSums] = defaultdict(UsageSums)
        models: dict[tuple[str, str], list[str]] = defaultdict(list)
        for item in found:
            service_type, service_provider, model = item.group
            services[service_type, service_provider].add(item.usage)
            if model:
                models[service_type, service_provider].append(model)
        return {
            **answers.window(question),
            "services": [
                {
                    "service_type": service_type,
                    "service_provider": service_provider,
                    "models": models[service_type, service_provider],
                    **answers.usage_with_metrics(services[service_type, service_provider], caller),
                }
                for service_type, service_provider in sorted(
                    services, key=lambda service: (-services[service].event_count, service)
                )
            ],
            "totals": answers.usage_with_metrics(answers.total(services.values()), caller),
        }

    async def costs(self, parameters: CostParameters, caller: Caller) -> Answer:
        """Days are in order of time, all of them; other groups have the most expensive first."""
        caller.require_costs("This report")
        question = asked(parameters, caller)
        groups = await (
            self._costs_by_day(question, parameters, caller)
            if parameters.group_by == "day"
            else self._costs_by_word(question, parameters, caller, Dimension(parameters.group_by))
        )
        return {
            "group_by": parameters.group_by,
            **answers.window(question),
            "groups": [{"key": key, **answers.usage(sums, caller)} for key, sums in groups.items()],
            "totals": answers.usage(answers.total(groups.values()), caller),
        }

    async def _costs_by_day(self, question: Asked, parameters: CostParameters, caller: Caller) -> dict[str, UsageSums]:
        days = buckets(question.window, Period.DAY, question.zone)
        found = await self._queries.sums(
            caller.scope,
            days,
            filters=usage_filters(parameters, caller),
            metrics=_COUNTS_AND_AMOUNTS,
            period=Period.DAY,
        )
        by_day = {item.bucket: item.usage for item in found}
        return {
            day.start.astimezone(question.zone).date().isoformat(): by_day.get(i, UsageSums())
            for i, day in enumerate(days)
        }

    async def _costs_by_word(
        self, question: Asked, parameters: CostParameters, caller: Caller, word: Dimension
    ) -> dict[str, UsageSums]:
        found = await self._queries.sums(
            caller.scope,
            [question.window],
            filters=usage_filters(parameters, caller),
            metrics=_COUNTS_AND_AMOUNTS,
            group_by=(word,),
        )
        currency = answers.main_currency(answers.total(item.usage for item in found).costs)
        found.sort(key=lambda item: (-answers.total_in(item.usage.costs, currency), item.group))
        return {item.group[0]: item.usage for item in found}


_COUNTS_AND_AMOUNTS = (EVENTS, ERRORS, UNPRICED, COST, CHARGE)

"""Analytics: how one metric moves over time, and who uses most."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

from services.query_service import answers
from services.query_service.planner import Caller, asked, usage_filters
from services.query_service.schemas.parameters import TopUserParameters, TrendParameters
from shared.domain import rollups
from shared.domain.money import EXACT, ZERO, exact_sum
from shared.domain.windows import buckets
from shared.storage.usage_queries import Ranking, UsageQueries, UsageSums

Answer = dict[str, Any]

# the names our own metrics are asked for by; any other name is a sender's
_OURS: Final = {
    "event_count": rollups.EVENTS,
    "error_count": rollups.ERRORS,
    "unpriced_count": rollups.UNPRICED,
    "cost": rollups.COST,
    "total_cost": rollups.COST,
    "charge": rollups.CHARGE,
}
_PERCENT_STEP: Final = Decimal("0.01")
_PERCENT: Final = Context(prec=200, rounding=ROUND_HALF_EVEN)


class Analytics:
    def __init__(self, queries: UsageQueries) -> None:
        self._queries = queries

    async def trends(self, parameters: TrendParameters, caller: Caller) -> Answer:
        metric = _OURS.get(parameters.metric, parameters.metric)
        if metric == rollups.COST:
            caller.require_costs("The trend of cost")
        question = asked(parameters, caller, period=parameters.period)
        periods = buckets(question.window, parameters.period, question.zone)
        found = await self._queries.sums(
            caller.scope,
            periods,
            filters=usage_filters(parameters, caller),
            metrics=(metric,),
            period=parameters.period,
        )
        currency = None
        if metric in (rollups.COST, rollups.CHARGE):
            total = answers.total(item.usage for item in found)
            amounts = total.costs if metric == rollups.COST else total.charges
            currency = parameters.currency or answers.main_currency(amounts)
        by_bucket = {item.bucket: _value(item.usage, metric, currency) for item in found}
        values = [by_bucket.get(i, ZERO) for i in range(len(periods))]
        over = [value for value, period in zip(values, periods, strict=True) if period.end <= caller.now]
        return {
            "metric": parameters.metric,
            "period": parameters.period,
            **answers.window(question),
            "currency": currency,
            "data_points": [
                {"start": bucket.start, "end": bucket.end, "value": value}
                for bucket, value in zip(periods, values, strict=True)
            ],
            "total": exact_sum(values),
            **_movement(over),
        }

    async def top_users(self, parameters: TopUserParameters, caller: Caller) -> Answer:
        if parameters.metric is Ranking.COST:
            caller.require_costs("A ranking by cost")
        question = asked(parameters, caller)
        top = await self._queries.top_users(
            caller.scope,
            question.window,
            filters=usage_filters(parameters, caller),
            rank_by=parameters.metric,
            limit=parameters.limit,
            currency=parameters.currency,
        )
        return {
            "metric": parameters.metric,
            **answers.window(question),
            "limit": parameters.limit,
            "ranked_in": top.currency,
            "users": [
                {"user_id": user.user_id, "quantity": user.quantity, **answers.usage(user.usage, caller)}
                for user in top.users
            ],
        }


def _value(usage: UsageSums, metric: str, currency: str | None) -> Decimal:
    match metric:
        case rollups.EVENTS:
            return Decimal(usage.event_count)
        case rollups.ERRORS:
            return Decimal(usage.error_count)
        case rollups.UNPRICED:
            return Decimal(usage.unpriced_count)
        case rollups.COST:
            return answers.total_in(usage.costs, currency)
        case rollups.CHARGE:
            return answers.total_in(usage.charges, currency)
        case _:
            return usage.metrics[metric].total if metric in usage.metrics else ZERO


def _movement(values: Sequence[Decimal]) -> Answer:
    """The second half of the periods that are over against the first; the middle one of an odd number is left out."""
    half = len(values) // 2
    before, after = exact_sum(values[:half]), exact_sum(values[len(values) - half :])
    change = EXACT.subtract(after, before)
    percent = None
    if before:
        ratio = answers.RATIO.divide(EXACT.multiply(change, Decimal(100)), before)
        percent = EXACT.add(ratio.quantize(_PERCENT_STEP, context=_PERCENT), ZERO)  # never -0
    return {
        "direction": "up" if change > 0 else "down" if change < 0 else "flat",
        "change": change,
        "change_percent": percent,
    }

"""Sums as an answer shows them. Amounts of cost are left out, not zeroed, for a caller who may not read them."""

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, Final

import msgspec

from services.query_service.planner import Asked, Caller
from shared.domain.money import ZERO, exact_sum
from shared.storage.usage_queries import MetricSums, UsageSums

# Sums are exact. A ratio of two of them has no end: 20 significant digits of it, half to even.
RATIO: Final = Context(prec=20, rounding=ROUND_HALF_EVEN)


def window(asked: Asked) -> dict[str, Any]:
    return {"start_date": asked.window.start, "end_date": asked.window.end, "timezone": asked.zone.key}


def total(sums: Iterable[UsageSums]) -> UsageSums:
    found = UsageSums()
    for item in sums:
        found.add(item)
    return found


def usage(sums: UsageSums, caller: Caller) -> dict[str, Any]:
    return {
        "event_count": sums.event_count,
        "error_count": sums.error_count,
        "unpriced_count": sums.unpriced_count,
        **amounts(sums, caller),
    }


def usage_with_metrics(sums: UsageSums, caller: Caller) -> dict[str, Any]:
    return {**usage(sums, caller), "metrics": {name: _metric(sums.metrics[name]) for name in sorted(sums.metrics)}}


def amounts(sums: UsageSums, caller: Caller) -> dict[str, Any]:
    """Lists by currency, and beside them the plain total where it exists: in one currency, or 0 in none."""
    shown = {"charge": sums.charges}
    if caller.may_read_costs:
        shown["total_cost"] = sums.costs
    currencies = sorted({currency for by_currency in shown.values() for currency in by_currency})
    answer: dict[str, Any] = {"currency": currencies[0] if len(currencies) == 1 else None}
    for name, by_currency in shown.items():
        answer[name] = exact_sum(item.total for item in by_currency.values()) if len(currencies) <= 1 else None
        answer[_LISTS[name]] = [
            {"currency": currency, name: by_currency[currency].total} for currency in sorted(by_currency)
        ]
    return answer


_LISTS: Final = {"charge": "charges", "total_cost": "costs"}


def main_currency(by_currency: Mapping[str, MetricSums]) -> str | None:
    """The one that most events are priced in."""
    return min(by_currency, key=lambda currency: (-by_currency[currency].count, currency), default=None)


def total_in(by_currency: Mapping[str, MetricSums], currency: str | None) -> Decimal:
    return by_currency[currency].total if currency is not None and currency in by_currency else ZERO


def event(row: Any, caller: Caller, *, include_billing: bool) -> dict[str, Any]:
    answer = {
        "event_id": row.event_id,
        "source": row.source,
        "timestamp": row.occurred_at,
        "received_at": row.received_at,
        "tenant_id": caller.scope.tenant_id,
        "user_id": row.user_id,
        "customer_id": row.customer_id,
        "service_type": row.service_type,
        "service_provider": row.service_provider,
        "event_type": row.event_type,
        "model": row.model,
        "job_type": row.job_type,
        "status": row.status,
        "error_message": row.error_message,
        "metadata": msgspec.Raw(row.metadata.encode()),
        "metrics": msgspec.Raw(row.metrics.encode()),
        "tags": row.tags,
        "session_id": row.session_id,
        "request_id": row.request_id,
        "job_id": row.job_id,
        "run_id": row.run_id,
        "span_id": row.span_id,
        "parent_span_id": row.parent_span_id,
        "section": row.section,
    }
    if include_billing:
        billing = {"is_priced": row.cost is not None, "currency": row.currency or None, "charge": row.charge}
        answer["billing_info"] = {"total_cost": row.cost, **billing} if caller.may_read_costs else billing
    return answer


def _metric(sums: MetricSums) -> dict[str, Any]:
    return {
        "sum": sums.total,
        "min": sums.least,
        "max": sums.most,
        "count": sums.count,
        "avg": RATIO.divide(sums.total, Decimal(sums.count)) if sums.count else None,
    }

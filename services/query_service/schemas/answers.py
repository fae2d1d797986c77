"""Answers, for the documentation only: they are written as exact JSON, and amounts of cost need `costs:read`."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, Field, WithJsonSchema

from shared.domain.windows import Period
from shared.storage.usage_queries import Ranking

Number = Annotated[Decimal, WithJsonSchema({"type": "number"})]
_NEEDS_SCOPE = "Absent without the scope `costs:read`."


class Cost(BaseModel):
    currency: str
    total_cost: Number


class Charge(BaseModel):
    currency: str
    charge: Number


class Amounts(BaseModel):
    """Amounts of several currencies are never added: then the plain totals are null, and the lists say the rest."""

    currency: str | None = Field(description="Of the plain totals; null when there are none, or several.")
    total_cost: Number | None = Field(default=None, description=_NEEDS_SCOPE)
    costs: list[Cost] = Field(default=[], description=_NEEDS_SCOPE)
    charge: Number | None
    charges: list[Charge]


class Usage(Amounts):
    event_count: int
    error_count: int
    unpriced_count: int = Field(description="Events without a price: not in the costs, and not free.")


class Metric(BaseModel):
    sum: Number
    min: Number | None
    max: Number | None
    count: int = Field(description="Events that have the metric.")
    avg: Number | None = Field(description="sum / count, to 20 significant digits; the other numbers are exact.")


class UsageWithMetrics(Usage):
    metrics: dict[str, Metric]


class Windowed(BaseModel):
    """The window that was answered for, [start_date, end_date)."""

    start_date: datetime
    end_date: datetime
    timezone: str


class Billing(BaseModel):
    is_priced: bool
    currency: str | None
    charge: Number | None
    total_cost: Number | None = Field(default=None, description=_NEEDS_SCOPE)


class Event(BaseModel):
    event_id: str
    source: str
    timestamp: datetime
    received_at: datetime
    tenant_id: str
    user_id: str
    customer_id: str
    service_type: str
    service_provider: str
    event_type: str
    model: str
    job_type: str
    status: str
    error_message: str | None
    metadata: dict[str, Any]
    metrics: dict[str, Number]
    tags: list[str]
    session_id: str | None
    request_id: str | None
    job_id: str | None
    run_id: str | None
    span_id: str | None
    parent_span_id: str | None
    section: str | None
    billing_info: Billing | None = None


class EventList(Windowed):
    events: list[Event]
    total_count: int
    limit: int
    offset: int
    has_more: bool
    next_cursor: str | None


class Bucket(UsageWithMetrics):
    start: datetime
    end: datetime


class Aggregate(Windowed):
    period: Period
    buckets: list[Bucket]
    totals: UsageWithMetrics


class Service(UsageWithMetrics):
    service_type: str
    service_provider: str
    models: list[str]


class ByService(Windowed):
    services: list[Service]
    totals: UsageWithMetrics


class CostGroup(Usage):
    key: str


class Costs(Windowed):
    group_by: str
    groups: list[CostGroup]
    totals: Usage


class DataPoint(BaseModel):
    start: datetime
    end: datetime
    value: Number


class Trend(Windowed):
    metric: str
    period: Period
    currency: str | None
    data_points: list[DataPoint]
    total: Number
    direction: str = Field(description="`up`, `down` or `flat`: the sign of `change`.")
    change: Number = Field(
        description="The second half of the periods that are over, less the first half; an odd middle one is left out."
    )
    change_percent: Number | None = Field(description="Of the first half, to 2 decimals; null when that is 0.")


class User(Usage):
    user_id: str
    quantity: Number = Field(description="In the quantity of each service type: tokens, pages, requests, yours.")


class TopUsers(Windowed):
    metric: Ranking
    limit: int
    ranked_in: str | None = Field(description="The currency of a ranking by cost.")
    users: list[User]

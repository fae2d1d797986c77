"""Query parameters. A parameter nobody knows is refused: a misspelt filter must not answer for everything."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.domain.windows import Period
from shared.storage.usage_queries import Ranking


def _storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not hold a NUL")
    return value


Word = Annotated[str, Field(max_length=200), AfterValidator(_storable)]
MetricName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.:-]{0,63}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class WindowParameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    start_date: Word | None = Field(
        default=None,
        description="RFC 3339 instant; a time without offset, in `timezone`; or a date: midnight in `timezone`.",
        examples=["2026-01-01"],
    )
    end_date: Word | None = Field(
        default=None,
        description="The same, exclusive; but as a date it includes that day. Default: the end of the current period.",
        examples=["2026-01-31"],
    )
    timezone: Word | None = Field(
        default=None, description="IANA zone that days are in. Default: the tenant's.", examples=["Europe/Berlin"]
    )
    tenant_id: Word | None = Field(default=None, description="Must be the key's tenant; operator keys name one here.")


class GroupParameters(WindowParameters):
    service_type: Word | None = Field(default=None, description='Only this one; "" for usage without one. So with all.')
    service_provider: Word | None = None
    model: Word | None = None
    event_type: Word | None = None
    customer_id: Word | None = None
    job_type: Word | None = None
    status: Literal["success", "failed"] | None = None


class FilterParameters(GroupParameters):
    user_id: Word | None = None
    tags: list[Word] = Field(default=[], max_length=32, description="Repeat for several; an event must have them all.")


class EventParameters(FilterParameters):
    limit: int = Field(default=100, ge=1, le=1000)
    offset: int = Field(default=0, ge=0, le=1_000_000_000, description="Slow when large: prefer `cursor`.")
    cursor: Word | None = Field(default=None, description="`next_cursor` of the page before.")
    include_billing: bool = True


class AggregateParameters(FilterParameters):
    period: Period = Period.DAY


class CostParameters(FilterParameters):
    group_by: Literal["service_type", "service_provider", "model", "customer_id", "event_type", "job_type", "day"] = (
        "service_type"
    )


class TrendParameters(FilterParameters):
    metric: MetricName = Field(
        default="event_count",
        description="`event_count`, `error_count`, `unpriced_count`, `cost`, `charge`, or a metric you send.",
    )
    period: Period = Period.DAY
    currency: Currency | None = Field(
        default=None, description="For amounts. Default: the one that most events are priced in."
    )


class TopUserParameters(GroupParameters):
    metric: Ranking = Ranking.EVENT_COUNT
    limit: int = Field(default=10, ge=1, le=1000)
    currency: Currency | None = Field(
        default=None, description="To rank costs in. Default: the one that most events are priced in."
    )

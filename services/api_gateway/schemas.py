"""Bodies of the gateway's endpoints, as OpenAPI shows them. Events are validated by `validation.py`, not by these."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class EventBody(BaseModel):
    """One usage event. Typed fields of its service type may stand at top level, in `metadata` or in `metrics`."""

    model_config = ConfigDict(extra="allow")

    service_type: str = Field(examples=["llm_service"])
    user_id: str = Field(max_length=128)
    event_id: str | None = Field(default=None, max_length=128, description="Yours, the same on every retry; made if absent")
    timestamp: datetime | None = Field(default=None, description="RFC 3339 with a time zone; now if absent")
    tenant_id: str | None = Field(default=None, description="If given, must be the tenant of the key")
    customer_id: str | None = Field(default=None, max_length=128)
    service_provider: str | None = Field(default=None, max_length=128, examples=["openai"])
    event_type: str | None = Field(default=None, max_length=128, examples=["completion"])
    metadata: dict[str, Any] = Field(default_factory=dict, examples=[{"model": "gpt-4"}])
    metrics: dict[str, Decimal] = Field(default_factory=dict, examples=[{"input_tokens": 150, "output_tokens": 75}])
    tags: list[str] = Field(default_factory=list, max_length=32)
    session_id: str | None = None
    request_id: str | None = None
    job_id: str | None = None
    run_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    section: str | None = None
    status: str | None = Field(default=None, pattern="^(success|failed)$")
    error_message: str | None = Field(default=None, max_length=2000)


class BatchBody(BaseModel):
    events: list[EventBody]


class Accepted(BaseModel):
    """The event is held durably and will be counted once."""

    success: bool
    event_id: str
    message: str


class FailedEvent(BaseModel):
    index: int
    error: str
    code: str
    field: str
    event_data: Any = None


class BatchAccepted(BaseModel):
    """`processed_count` events are held durably; the others are listed with what is wrong."""

    success: bool
    processed_count: int
    failed_count: int
    failed_events: list[FailedEvent]
    event_ids: list[str]
    message: str


class BillingConfig(BaseModel):
    unit: str | None = Field(default=None, examples=["predictions"])
    calculation_method: str = Field(default="multiply", pattern="^(multiply|sum|flat)$")
    currency: str = "USD"
    rates: dict[str, Any] = Field(examples=[{"standard": 0.001}])


_NAME = r"^[a-z][a-z0-9_]{0,63}$"


class ServiceBody(BaseModel):
    """A service type of your own."""

    service_type: str = Field(pattern=_NAME, examples=["custom_ml_service"])
    service_name: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=2000)
    providers: list[str] = Field(default_factory=list, max_length=100)
    required_fields: list[str] = Field(default_factory=list, max_length=64)
    optional_fields: list[str] = Field(default_factory=list, max_length=64)
    validation_schema: dict[str, Any] | None = None
    billing_config: BillingConfig | None = None


class Service(ServiceBody):
    version: int
    is_enabled: bool
    is_shipped: bool
    created_at: datetime | None = None

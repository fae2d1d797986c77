"""Bodies of the gateway's endpoints, as OpenAPI shows them. Events are validated by `validation.py`, not by these."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, WithJsonSchema

from services.api_gateway.validation import MAX_ID_CHARACTERS, MAX_QUANTITY, MAX_TAGS, MAX_TEXT_CHARACTERS

Quantity = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_QUANTITY})]
Id = Annotated[str, Field(max_length=MAX_ID_CHARACTERS)]


class EventBody(BaseModel):
    """One usage event. Typed fields of its service type may stand at top level, in `metadata` or in `metrics`."""

    model_config = ConfigDict(extra="allow")

    service_type: str = Field(examples=["llm_service"])
    user_id: Id = Field(min_length=1)
    event_id: Id | None = Field(default=None, description="Yours, the same on every retry; made if absent")
    source: Id | None = Field(default=None, description="What `event_id` is unique within, if that is not the tenant")
    timestamp: datetime | None = Field(default=None, description="RFC 3339 with a time zone; now if absent")
    tenant_id: str | None = Field(default=None, description="If given, must be the tenant of the key")
    customer_id: Id | None = None
    team_id: Id | None = Field(default=None, description="The same as `customer_id`")
    service_provider: Id | None = Field(default=None, examples=["openai"])
    event_type: Id | None = Field(default=None, examples=["completion"])
    model: Id | None = None
    metadata: dict[str, Any] | None = Field(default=None, examples=[{"model": "gpt-4"}])
    metrics: dict[str, Quantity] | None = Field(default=None, examples=[{"input_tokens": 150, "output_tokens": 75}])
    tags: list[Id] | None = Field(default=None, max_length=MAX_TAGS)
    session_id: Id | None = None
    request_id: Id | None = None
    job_id: Id | None = None
    job_type: Id | None = None
    run_id: Id | None = None
    span_id: Id | None = None
    parent_span_id: Id | None = None
    section: Id | None = None
    status: str | None = Field(default=None, pattern="^(success|failed)$")
    error_message: str | None = Field(default=None, max_length=MAX_TEXT_CHARACTERS)


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


TypeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", examples=["custom_ml_service"])]
FieldName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.:-]{0,63}$", examples=["predictions"])]


class ServiceBody(BaseModel):
    """A service type of your own."""

    service_type: TypeName
    service_name: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=2000)
    providers: list[Annotated[Id, Field(min_length=1)]] = Field(default_factory=list, max_length=100)
    required_fields: list[FieldName] = Field(default_factory=list, max_length=64)
    optional_fields: list[FieldName] = Field(default_factory=list, max_length=64)
    validation_schema: dict[str, Any] | None = None
    billing_config: BillingConfig | None = None


class Service(ServiceBody):
    """A service type as it is registered. `billing_config` is absent for keys without `costs:read`."""

    version: int
    is_enabled: bool
    is_shipped: bool
    created_at: datetime | None = None


def request_body(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """What OpenAPI says of a body that is read by hand: the type behind each media type."""
    content = {media_type: {"schema": _whole_schema(kind)} for media_type, kind in kinds.items()}
    return {"requestBody": {"required": True, "content": content}}


def _whole_schema(kind: Any) -> Any:
    """The type's JSON Schema with every reference replaced by what it names: inside OpenAPI `#/$defs` leads nowhere."""
    schema = TypeAdapter(kind).json_schema()
    definitions = schema.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, dict):
            if "$ref" in part:
                return resolved(definitions[part["$ref"].rpartition("/")[2]])
            return {name: resolved(value) for name, value in part.items()}
        return [resolved(value) for value in part] if isinstance(part, list) else part

    return resolved(schema)

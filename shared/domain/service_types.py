"""Service types: what an event of each kind must carry, and where its typed fields live.

A typed field may be sent at the top level of the event, in `metadata` or in `metrics`. It is kept in one place:
numbers in `metrics`, everything else in `metadata`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ServiceType:
    """One version of a service type. `tenant` None means shipped with the product.

    `required` and `optional` are field names; `metrics` the ones among them that are quantities (non-negative
    numbers); `loose` the ones that are quantities if they are sent as numbers (a registered type does not say);
    `positive` those that must be above zero; `defaults` fills absent quantities; `quantity` names the metric
    that says how much was consumed (summed per user). `fields` are all of them, `attributes` those that are never
    quantities.
    """

    service_type: str
    version: int = 1
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    metrics: frozenset[str] = frozenset()
    positive: frozenset[str] = frozenset()
    defaults: Mapping[str, int] = field(default_factory=dict)
    loose: frozenset[str] = frozenset()
    quantity: str | None = None
    providers: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    is_enabled: bool = True
    fields: frozenset[str] = field(init=False)
    attributes: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        # asked for every event: worked out once
        object.__setattr__(self, "fields", frozenset((*self.required, *self.optional)))
        object.__setattr__(self, "attributes", self.fields - self.metrics - self.loose)


LLM_SERVICE = ServiceType(
    service_type="llm_service",
    required=("model", "input_tokens", "output_tokens"),
    optional=(
        "cached_input_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "latency_ms",
        "temperature",
        "max_tokens",
        "model_version",
    ),
    metrics=frozenset(
        {
            "input_tokens",
            "output_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "reasoning_tokens",
            "latency_ms",
        }
    ),
    quantity="total_tokens",
)

DOCUMENT_PROCESSOR = ServiceType(
    service_type="document_processor",
    required=("document_type", "processing_type", "pages_processed"),
    optional=("characters_extracted", "processing_time_ms", "file_size_bytes", "file_format"),
    metrics=frozenset({"pages_processed", "characters_extracted", "processing_time_ms", "file_size_bytes"}),
    positive=frozenset({"pages_processed"}),
    quantity="pages_processed",
)

API_SERVICE = ServiceType(
    service_type="api_service",
    required=("endpoint", "method"),
    optional=(
        "request_count",
        "response_time_ms",
        "payload_size_bytes",
        "response_size_bytes",
        "status_code",
        "api_version",
    ),
    metrics=frozenset({"request_count", "response_time_ms", "payload_size_bytes", "response_size_bytes"}),
    defaults={"request_count": 1},
    quantity="request_count",
)

SHIPPED: Mapping[str, ServiceType] = {
    kind.service_type: kind for kind in (LLM_SERVICE, DOCUMENT_PROCESSOR, API_SERVICE)
}

"""What the aggregation service can be told."""

from pydantic import Field

from shared.config.settings import ServiceSettings


class AggregationServiceSettings(ServiceSettings):
    aggregation_service_port: int = Field(default=8003, ge=1, le=65535)
    fold_interval_seconds: float = Field(default=2, ge=0.1, le=60)
    upkeep_interval_seconds: float = Field(default=3600, ge=1)
    partition_days_ahead: int = Field(default=14, ge=1, le=366)

"""What the event processor can be told."""

from pydantic import Field

from shared.config.settings import ServiceSettings


class EventProcessorSettings(ServiceSettings):
    event_processor_port: int = Field(default=8001, ge=1, le=65535)
    processor_workers: int = Field(default=2, ge=1, le=16, description="batches in flight, each on its own connection")
    batch_max_bytes: int = Field(default=2_000_000, ge=1)
    batch_max_envelopes: int = Field(default=2_000, ge=1)
    batch_max_age_seconds: float = Field(default=0.1, ge=0, le=5, description="how long a small batch waits for more")
    lease_seconds: float = Field(default=15, ge=1, description="a dead processor's envelopes return after this")

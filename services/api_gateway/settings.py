"""What the gateway can be told."""

from pydantic import Field

from shared.config.settings import ServiceSettings


class ApiGatewaySettings(ServiceSettings):
    api_gateway_port: int = Field(default=8000, ge=1, le=65535)
    query_service_url: str = Field(default="http://127.0.0.1:8002", description="where reads are forwarded")
    max_batch_size: int = Field(default=1000, ge=1, le=10_000, description="events in one request")
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, description="of a request's body, decompressed")
    max_future_seconds: int = Field(default=3600, ge=0, description="how far ahead of our clock an event may be")
    queue_max_envelopes: int = Field(default=1_000_000, ge=1)
    queue_max_memory_bytes: int = Field(default=768 * 1024 * 1024, ge=1024, description="Redis memory, then 503")
    key_cache_seconds: float = Field(default=0.5, ge=0, le=60)
    key_stale_seconds: float = Field(
        default=900, ge=0, description="how long a known key still works while the database is away"
    )
    registry_interval_seconds: float = Field(default=0.5, ge=0.05, le=60)

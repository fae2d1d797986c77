"""What the query service can be told."""

from pydantic import Field, SecretStr

from shared.config.settings import ServiceSettings


class QueryServiceSettings(ServiceSettings):
    query_service_port: int = Field(default=8002, ge=1, le=65535)
    database_read_url: SecretStr | None = Field(default=None, description="a replica, for the reports")
    statement_timeout_seconds: float = Field(default=30, gt=0, le=600, description="then the answer is 503")
    key_cache_seconds: float = Field(default=0.5, ge=0, le=60)
    key_stale_seconds: float = Field(
        default=900, ge=0, description="how long a known key still works while its database is away"
    )

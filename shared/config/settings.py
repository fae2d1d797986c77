"""The settings every process has, and how they are read: environment, with `NAME_FILE` for secrets kept in files."""

import os
import sys
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.sources import PydanticBaseSettingsSource


class _FileSecrets(PydanticBaseSettingsSource):
    """`DATABASE_URL_FILE=/run/secrets/db` sets DATABASE_URL to the file's contents."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        return (Path(path).read_text().strip() if path else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class ServiceSettings(BaseSettings):
    """What each process needs to find its stores, log, and keep its bounds."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    host: str = "127.0.0.1"
    database_url: SecretStr
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    api_secret_key: SecretStr
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    database_pool_size: int = Field(default=5, ge=1, le=100)
    event_retention_days: int = Field(default=365, ge=1, le=36500)
    rollup_retention_days: int = Field(default=1095, ge=1, le=36500)
    deduplication_window_days: int = Field(default=35, ge=1, le=3650)

    @field_validator("api_secret_key")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < 16:
            raise ValueError("must have at least 16 characters")
        return value

    @model_validator(mode="after")
    def _rollups_outlive_events(self) -> "ServiceSettings":
        """Totals are read from rollups: events that outlive them would silently be missing from every sum."""
        if self.rollup_retention_days < self.event_retention_days:
            if "rollup_retention_days" in self.model_fields_set:
                raise ValueError(
                    "ROLLUP_RETENTION_DAYS must not be below EVENT_RETENTION_DAYS; raise it or leave it out"
                )
            object.__setattr__(self, "rollup_retention_days", self.event_retention_days)
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _FileSecrets(settings_cls)


Settings = TypeVar("Settings", bound=ServiceSettings)


def read_settings(cls: type[Settings]) -> Settings:
    """Read from the environment, or stop the process with one sentence that says what to set."""
    try:
        return cls()  # type: ignore[call-arg]  # the environment gives the arguments
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        reason = "is not set" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        if not name:
            sys.exit(f"Cannot start: {reason}.")
        sys.exit(f"Cannot start: {name} {reason}; set {name} in the environment (or {name}_FILE for a secret).")
    except OSError as error:
        sys.exit(f"Cannot start: a *_FILE setting names a file that cannot be read: {error}.")

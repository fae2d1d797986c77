"""Settings come from the environment or from files, and what is missing stops the start with one sentence."""

from pathlib import Path

import pytest

from services.api_gateway.settings import ApiGatewaySettings
from shared.config.settings import ServiceSettings, read_settings

ENVIRONMENT = {"DATABASE_URL": "postgresql+asyncpg://u:p@db/usage", "API_SECRET_KEY": "a-secret-of-enough-characters"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "LOG_LEVEL", "MAX_BATCH_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def test_the_environment_sets_them_and_secrets_are_masked() -> None:
    settings = read_settings(ApiGatewaySettings)
    assert settings.max_batch_size == 1000
    assert settings.database_url.get_secret_value() == ENVIRONMENT["DATABASE_URL"]
    assert "p@db" not in repr(settings)


def test_rollups_are_kept_at_least_as_long_as_events(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENT_RETENTION_DAYS", "4000")
    assert read_settings(ServiceSettings).rollup_retention_days == 4000


def test_a_secret_may_lie_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret-out-of-a-file\n")
    monkeypatch.delenv("API_SECRET_KEY")
    monkeypatch.setenv("API_SECRET_KEY_FILE", str(tmp_path / "secret"))
    assert read_settings(ServiceSettings).api_secret_key.get_secret_value() == "a-secret-out-of-a-file"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("API_SECRET_KEY", None, "Cannot start: API_SECRET_KEY is not set; set API_SECRET_KEY"),
        (
            "API_SECRET_KEY",
            "short",
            "Cannot start: API_SECRET_KEY must have at least 16 characters; set API_SECRET_KEY",
        ),
        ("MAX_BATCH_SIZE", "many", "Cannot start: MAX_BATCH_SIZE Input should be a valid integer"),
        ("ROLLUP_RETENTION_DAYS", "30", "Cannot start: ROLLUP_RETENTION_DAYS must not be below EVENT_RETENTION_DAYS"),
        ("API_SECRET_KEY_FILE", "/nowhere", "Cannot start: a *_FILE setting names a file that cannot be read"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None, sentence: str
) -> None:
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stop:
        read_settings(ApiGatewaySettings)
    assert str(stop.value).startswith(sentence)
    assert "\n" not in str(stop.value)

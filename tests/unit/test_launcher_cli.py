"""The command line: what it prints of a secret, and what it refuses."""

import pytest
from pydantic import SecretStr

from launcher.cli import _masked, main
from shared.security.api_keys import is_well_formed


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (8000, "8000"),
        (SecretStr("anything"), "***"),
        (SecretStr("redis://127.0.0.1:6379/0"), "redis://127.0.0.1:6379/0"),
        (SecretStr("redis://:pass@host:6379/0"), "redis://:***@host:6379/0"),
        (SecretStr("postgresql+asyncpg://usage:pass@host/usage"), "postgresql+asyncpg://usage:***@host/usage"),
        (SecretStr("postgresql://usage:p/a@ss@host/usage"), "postgresql://usage:***@host/usage"),
    ],
)
def test_of_an_address_only_the_password_is_hidden(value: object, shown: str) -> None:
    assert _masked(value) == shown


def test_a_generated_key_is_well_formed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["keys", "generate", "--environment", "test"])
    key = capsys.readouterr().out.strip()
    assert key.startswith("ut_test_")
    assert is_well_formed(key)


@pytest.mark.parametrize("arguments", [[], ["up", "--fsync", "never"], ["up", "--gateways", "0"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2

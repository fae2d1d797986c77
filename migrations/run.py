"""Bring a database to the newest schema, then make the operator key known: `python -m migrations.run`."""

import asyncio
import os
from pathlib import Path

from alembic import command
from alembic.config import Config

from shared.config.settings import ServiceSettings, read_settings
from shared.storage.bootstrap import ensure_bootstrap
from shared.storage.database import sqlalchemy_url


def upgrade(database_url: str, *, revision: str = "head") -> None:
    """Run every migration not yet applied. Safe to call from several places at once."""
    config = Config(Path(__file__).parent.parent / "alembic.ini")
    config.attributes["database_url"] = sqlalchemy_url(database_url)
    command.upgrade(config, revision)


def main() -> None:
    settings = read_settings(ServiceSettings)
    database_url = settings.database_url.get_secret_value()
    upgrade(database_url)
    operator_key = os.environ.get("USAGE_ADMIN_KEY")
    if path := os.environ.get("USAGE_ADMIN_KEY_FILE"):
        operator_key = Path(path).read_text().strip()
    asyncio.run(
        ensure_bootstrap(
            database_url, secret=settings.api_secret_key.get_secret_value(), operator_key=operator_key, demo=None
        )
    )


if __name__ == "__main__":
    main()

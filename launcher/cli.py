"""The `usage` command: reads the command line, calls one thing."""

import argparse
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from launcher.supervisor import StartError
from shared.config.settings import ServiceSettings, read_settings
from shared.security.api_keys import generate_api_key

# Imports of a command's own parts stand in its function: `usage check-config` needs no embedded store installed.

SERVICES = ("api_gateway", "event_processor", "query_service", "aggregation_service")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except StartError as error:
        sys.exit(f"usage: {error}")


def _up(options: argparse.Namespace) -> None:
    from launcher.stack import Options, up

    up(
        Options(
            data_directory=options.data_dir,
            port_offset=options.port_offset,
            fsync=options.fsync,
            gateway_count=options.gateways,
            processor_count=options.processors,
            with_demo=options.demo,
        )
    )


def _migrate(_options: argparse.Namespace) -> None:
    from migrations.run import main as migrate

    migrate()


def _check_config(_options: argparse.Namespace) -> None:
    """Stops with the sentence that the service itself would stop with."""
    for service in SERVICES:
        print(f"{service}:")
        for name, value in read_settings(_settings_class(service)):
            print(f"  {name.upper()}={_masked(value)}")


def _openapi(options: argparse.Namespace) -> None:
    """The description of one service's API, made without its stores."""
    # nothing is opened to describe the routes, so these settings only have to be well-formed
    settings = _settings_class(options.service)(
        database_url=SecretStr("postgresql://nobody@localhost/none"), api_secret_key=SecretStr("-" * 32)
    )
    app = importlib.import_module(f"services.{options.service}.app").create_app(settings)
    print(json.dumps(app.openapi(), indent=2))


def _generate_key(options: argparse.Namespace) -> None:
    """Known to no database yet: for USAGE_ADMIN_KEY, which the migrate job makes known."""
    print(generate_api_key(options.environment))


def _settings_class(service: str) -> type[ServiceSettings]:
    """ApiGatewaySettings of services.api_gateway.settings: every service names them alike."""
    name = service.title().replace("_", "") + "Settings"
    settings_class: type[ServiceSettings] = getattr(importlib.import_module(f"services.{service}.settings"), name)
    return settings_class


def _masked(value: object) -> str:
    """Secrets as stars; of an address everything but its password, because a wrong host is what one looks for."""
    if not isinstance(value, SecretStr):
        return str(value)
    secret = value.get_secret_value()
    # greedy up to the last @: a password that should have been escaped is hidden all the same
    return re.sub(r"(://[^:/@]*:).*@", r"\1***@", secret) if "://" in secret else "***"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="usage", description="Run and operate the usage tracking platform.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="run the whole platform here: stores, migrations, every service")
    up.add_argument("--data-dir", type=Path, default=Path(".usage-data"), help="default: %(default)s")
    up.add_argument("--port-offset", type=int, default=0, help="added to every port")
    up.add_argument("--fsync", choices=("always", "everysec"), default="always", help="when the queue reaches the disk")
    up.add_argument("--gateways", type=_count, default=os.environ.get("API_GATEWAY_COUNT", "1"), help="how many")
    up.add_argument("--processors", type=_count, default=os.environ.get("EVENT_PROCESSOR_COUNT", "1"), help="how many")
    up.add_argument("--demo", action="store_true", help="fill in a month of believable usage")
    up.set_defaults(run=_up)

    migrate = commands.add_parser("migrate", help="bring DATABASE_URL to the newest schema")
    migrate.set_defaults(run=_migrate)

    check_config = commands.add_parser("check-config", help="print every service's settings, secrets masked")
    check_config.set_defaults(run=_check_config)

    keys = commands.add_parser("keys", help="API keys").add_subparsers(required=True, metavar="ACTION")
    generate = keys.add_parser("generate", help="print a new well-formed key, for USAGE_ADMIN_KEY")
    generate.add_argument("--environment", default="live", help="the word after ut_; default: %(default)s")
    generate.set_defaults(run=_generate_key)

    openapi = commands.add_parser("openapi", help="print the OpenAPI description of a service")
    openapi.add_argument("service", nargs="?", choices=SERVICES, default="api_gateway", help="default: %(default)s")
    openapi.set_defaults(run=_openapi)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10:
        raise argparse.ArgumentTypeError("from 1 to 10")
    return number


if __name__ == "__main__":
    main()

"""`usage up`: the composition of the whole platform on one machine, from the data directory to the printed keys."""

import asyncio
import fcntl
import json
import os
import secrets
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.stores import LOOPBACK, Fsync, Postgres, Valkey, require_free_ports, write_private
from launcher.supervisor import Interrupted, Program, StartError, Supervisor
from migrations.run import upgrade
from shared.security.api_keys import generate_api_key
from shared.storage.bootstrap import ensure_bootstrap

PORTS = {
    "api_gateway": 8000,
    "event_processor": 8001,
    "query_service": 8002,
    "aggregation_service": 8003,
    "postgres": 54329,
    "redis": 63799,
}
REPLICA_PORT_STEP = 100
DATABASE = "usage"
DEMO_TENANT = "demo"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line of `up` says."""

    data_directory: Path
    port_offset: int = 0
    fsync: Fsync = "always"
    gateway_count: int = 1
    processor_count: int = 1
    with_demo: bool = False


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process of one service: `event_processor-2` is the second of its kind."""

    name: str
    module: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """Made at the first start and kept, so that keys handed out yesterday work today."""

    api_secret_key: str
    operator_key: str
    demo_key: str

    @classmethod
    def load_or_make(cls, path: Path) -> "Secrets":
        if path.exists():
            return cls(**json.loads(path.read_text()))
        made = cls(
            api_secret_key=secrets.token_urlsafe(48),
            operator_key=generate_api_key("live"),
            demo_key=generate_api_key("live"),
        )
        write_private(path, json.dumps(vars(made), indent=2) + "\n")
        return made


def up(options: Options) -> None:
    """Starts everything, watches over it, and stops it in order at the first SIGINT or SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: stopping.set())
    directory = options.data_directory.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    with _only_one(directory):
        try:
            _Stack(options, directory, stopping).run()
        except Interrupted:
            return


class _Stack:
    """The parts of one `up`, in the order in which they start."""

    def __init__(self, options: Options, directory: Path, stopping: threading.Event) -> None:
        self._options = options
        self._directory = directory
        self._description = directory / "stack.json"
        self._supervisor = Supervisor(say=_say, is_stopping=stopping.is_set, on_change=self._describe_if_ready)
        self._is_ready = False
        self._services = _services(options)

        self._logs = directory / "logs"
        self._logs.mkdir(exist_ok=True)
        ports = {name: port + options.port_offset for name, port in PORTS.items()}
        self._postgres = Postgres(directory / "postgres", port=ports["postgres"], log=self._logs / "postgres.log")
        self._redis = Valkey(
            directory / "redis", port=ports["redis"], log=self._logs / "redis.log", fsync=options.fsync
        )
        # A description left behind means that the last launcher was killed; its children end by themselves, but they
        # finish their work first.
        require_free_ports(
            {service.name: service.port for service in self._services}
            | {name: ports[name] for name in ("postgres", "redis")},
            patience_seconds=30.0 if self._description.exists() else 0.0,
        )
        self._secrets = Secrets.load_or_make(directory / "secrets.json")

    def run(self) -> None:
        started_at = time.monotonic()
        self._description.unlink(missing_ok=True)  # whoever finds it there finds a running stack
        try:
            self._start_stores()
            self._start_services()
            self._is_ready = True
            self._describe_if_ready()
            self._print(time.monotonic() - started_at)
            if self._options.with_demo:
                self._fill_with_demo_data()
            self._supervisor.run()
        finally:
            _say("stopping")
            self._is_ready = False
            self._supervisor.stop()
            self._description.unlink(missing_ok=True)
            _say("stopped")

    def _start_stores(self) -> None:
        self._postgres.prepare()
        if self._postgres.notice:
            _say(self._postgres.notice)
        self._redis.prepare()
        self._supervisor.start([self._postgres.program()])
        self._supervisor.start([self._redis.program()])
        self._supervisor.wait_ready()
        self._postgres.ensure_database(DATABASE)
        upgrade(self._database_url)
        asyncio.run(
            ensure_bootstrap(
                self._database_url,
                secret=self._secrets.api_secret_key,
                operator_key=self._secrets.operator_key,
                demo=(DEMO_TENANT, self._secrets.demo_key),
            )
        )

    def _start_services(self) -> None:
        """Together, and in the order of stopping, backwards: what accepts work ends first, then what finishes it."""
        for module in ("query_service", "aggregation_service", "event_processor", "api_gateway"):
            self._supervisor.start([self._program(service) for service in self._services if service.module == module])
        self._supervisor.wait_ready()

    def _program(self, service: Service) -> Program:
        environment = {
            **os.environ,
            "HOST": LOOPBACK,
            f"{service.module.upper()}_PORT": str(service.port),
            "QUERY_SERVICE_URL": self._url("query_service"),
            "DATABASE_URL": self._database_url,
            "REDIS_URL": self._redis.url,
            "API_SECRET_KEY": self._secrets.api_secret_key,
            "USAGE_ADMIN_KEY": self._secrets.operator_key,
            "LOG_FORMAT": os.environ.get("LOG_FORMAT", "console"),
            "PYTHONUNBUFFERED": "1",
        }
        return Program(
            name=service.name,
            command=[sys.executable, "-m", f"services.{service.module}"],
            log=self._logs / f"{service.name}.log",
            is_ready=lambda: _answers(f"{service.url}/readyz"),
            environment=environment,
        )

    @property
    def _database_url(self) -> str:
        return self._postgres.url(DATABASE)

    def _url(self, name: str) -> str:
        return next(service.url for service in self._services if service.name == name)

    def _description_of_all(self) -> dict[str, Any]:
        urls = {service.name: service.url for service in self._services if service.name == service.module}
        return {
            **urls,
            "gateways": [service.url for service in self._services if service.module == "api_gateway"],
            "processors": [service.url for service in self._services if service.module == "event_processor"],
            "operator_key": self._secrets.operator_key,
            "demo_tenant": DEMO_TENANT,
            "demo_key": self._secrets.demo_key,
            "database_url": self._database_url,
            "redis_url": self._redis.url,
            "pids": self._supervisor.pids,
        }

    def _describe_if_ready(self) -> None:
        if self._is_ready:
            write_private(self._description, json.dumps(self._description_of_all(), indent=2) + "\n")

    def _print(self, seconds: float) -> None:
        lines = [(service.name, service.url) for service in self._services]
        lines += [
            ("operator key", self._secrets.operator_key),
            ("demo tenant", DEMO_TENANT),
            ("demo key", self._secrets.demo_key),
            ("data, logs", str(self._directory)),
        ]
        for name, value in lines:
            print(f"{name:<22}{value}")
        print(f"Ready after {seconds:.1f} s. The same is in {self._description}. Ctrl-C stops everything.", flush=True)

    def _fill_with_demo_data(self) -> None:
        """Beside the supervisor: it may take a minute, and a service that dies meanwhile is restarted all the same."""
        from launcher.demo import fill

        stack = self._description_of_all()
        threading.Thread(target=lambda: asyncio.run(fill(stack)), name="demo", daemon=True).start()


def _services(options: Options) -> Sequence[Service]:
    counts = {"api_gateway": options.gateway_count, "event_processor": options.processor_count}
    return [
        Service(
            name=module if number == 0 else f"{module}-{number + 1}",
            module=module,
            port=PORTS[module] + options.port_offset + number * REPLICA_PORT_STEP,
        )
        for module in ("api_gateway", "event_processor", "query_service", "aggregation_service")
        for number in range(counts.get(module, 1))
    ]


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """The kernel drops the lock with the process, however it ends."""
    with (directory / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StartError(f"`up` already runs on {directory} as pid {file.read().strip()}.") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2.0) as response:  # noqa: S310  (our own http address)
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)

"""The platform as processes: the same `python -m services.X` as production, restarted by the launcher's supervisor."""

import os
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.stores import free_port
from launcher.supervisor import Program, Supervisor
from tests.conftest import SECRET

SERVICES = ("query_service", "aggregation_service", "event_processor", "event_processor", "api_gateway", "api_gateway")


@dataclass(frozen=True)
class Stack:
    """Where the processes answer; `pids` changes when one is restarted."""

    gateways: list[str]
    query_service: str
    supervisor: Supervisor

    @property
    def pids(self) -> dict[str, int]:
        return self.supervisor.pids


@contextmanager
def running_stack(directory: Path, *, database_url: str, redis_url: str, **environment: str) -> Iterator[Stack]:
    """Two gateways, two processors, a query service and an aggregator on these stores; stopped in order at the end."""
    stopping = threading.Event()
    supervisor = Supervisor(say=lambda line: None, is_stopping=stopping.is_set)
    urls: list[str] = []
    for number, service in enumerate(SERVICES):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        urls.append(url)
        program = Program(
            name=f"{service}-{number}",
            command=[sys.executable, "-m", f"services.{service}"],
            log=directory / f"{service}-{number}.log",
            is_ready=lambda url=url: _answers(f"{url}/readyz"),
            environment={
                **os.environ,
                "HOST": "127.0.0.1",
                f"{service.upper()}_PORT": str(port),
                "QUERY_SERVICE_URL": urls[0],
                "DATABASE_URL": database_url,
                "REDIS_URL": redis_url,
                "API_SECRET_KEY": SECRET,
                "LEASE_SECONDS": "2",
                **environment,
            },
        )
        supervisor.start([program])
    watching = threading.Thread(target=supervisor.run, name="supervisor")
    try:
        supervisor.wait_ready()
        watching.start()
        yield Stack(gateways=urls[-2:], query_service=urls[0], supervisor=supervisor)
    finally:
        stopping.set()
        if watching.is_alive():
            watching.join()
        supervisor.stop()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - a loopback address made above
            return bool(answer.status == 200)
    except OSError:
        return False

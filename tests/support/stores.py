"""Real stores for the tests: embedded PostgreSQL and Valkey, or what TEST_DATABASE_URL and TEST_REDIS_URL name."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.stores import Postgres, Valkey, free_port
from launcher.supervisor import Child, Program

# The cluster lives as long as the test run, so nothing has to survive a power cut; and every worker has its own.
_DISPOSABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "128MB",
    "max_connections": "200",
}


@dataclass(frozen=True)
class Stores:
    """Where the stores are. The handles, to kill, stop and restart them, are None for a server that is not ours."""

    database_url: str
    redis_url: str
    postgres: Child | None
    redis: Child | None


@contextmanager
def start_stores(directory: Path) -> Iterator[Stores]:
    """Both stores, empty, with their files and logs in `directory`; gone at the end."""
    database_url, redis_url = os.environ.get("TEST_DATABASE_URL"), os.environ.get("TEST_REDIS_URL")
    postgres: Child | None = None
    redis: Child | None = None
    with ExitStack() as stack:
        if not redis_url:
            valkey = Valkey(directory / "redis", port=free_port(), log=directory / "redis.log", fsync="everysec")
            valkey.prepare()
            redis, redis_url = _start(stack, valkey.program()), valkey.url
        if not database_url:
            cluster = Postgres(
                directory / "postgres", port=free_port(), log=directory / "postgres.log", settings=_DISPOSABLE
            )
            cluster.prepare()
            postgres, database_url = _start(stack, cluster.program()), cluster.url("postgres")
        yield Stores(database_url, redis_url, postgres, redis)


def _start(stack: ExitStack, program: Program) -> Child:
    child = Child(program)
    child.start()
    stack.callback(child.stop)
    child.wait_ready()
    return child

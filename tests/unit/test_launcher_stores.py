"""The embedded stores: made once, found again, alive after a hard kill, and open only to who holds the password."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
import redis.exceptions

from launcher.stores import LOOPBACK, Postgres, Valkey, free_port, require_free_ports, write_private
from launcher.supervisor import Child, StartError

QUICK = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for child in started:
        child.stop()


def start(store: Postgres | Valkey, children: list[Child]) -> Child:
    store.prepare()
    child = Child(store.program())
    child.start()
    children.append(child)
    child.wait_ready()
    return child


async def test_postgres_finds_its_data_again_after_a_hard_kill(tmp_path: Path, children: list[Child]) -> None:
    def cluster() -> Postgres:
        return Postgres(tmp_path / "postgres", port=port, log=tmp_path / "log", settings=QUICK)

    port = free_port()
    postgres = cluster()
    child = start(postgres, children)
    postgres.ensure_database("usage")
    postgres.ensure_database("usage")
    connection = await asyncpg.connect(postgres.url("usage"))
    await connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
    child.kill()
    connection.terminate()
    lock = tmp_path / "postgres" / "data" / "postmaster.pid"
    assert lock.exists()
    # the worst leftover: a process id that lives and belongs to somebody else
    lock.write_text(lock.read_text().replace(str(child.pid), str(os.getppid()), 1))

    again = cluster()
    start(again, children)
    assert again.url("usage") == postgres.url("usage")
    connection = await asyncpg.connect(again.url("usage"))
    assert await connection.fetchval("SELECT number FROM kept") == 1
    await connection.close()


async def test_postgres_wants_its_password(tmp_path: Path, children: list[Child]) -> None:
    port = free_port()
    postgres = Postgres(tmp_path / "postgres", port=port, log=tmp_path / "log", settings=QUICK)
    start(postgres, children)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(f"postgresql://postgres:guess@{LOOPBACK}:{port}/postgres")
    assert stat.S_IMODE((tmp_path / "postgres" / "password").stat().st_mode) == 0o600


async def test_valkey_keeps_what_it_answered_for(tmp_path: Path, children: list[Child]) -> None:
    valkey = Valkey(tmp_path / "redis", port=free_port(), log=tmp_path / "log")
    child = start(valkey, children)
    async with redis.asyncio.from_url(valkey.url) as client:
        assert (await client.config_get("appendfsync"))["appendfsync"] == "always"
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        await client.rpush("usage_events", b"one")
    child.kill()
    child.start()
    child.wait_ready()
    async with redis.asyncio.from_url(valkey.url) as client:
        assert await client.lrange("usage_events", 0, -1) == [b"one"]


async def test_valkey_wants_its_password(tmp_path: Path, children: list[Child]) -> None:
    port = free_port()
    start(Valkey(tmp_path / "redis", port=port, log=tmp_path / "log", fsync="off"), children)
    async with redis.asyncio.from_url(f"redis://{LOOPBACK}:{port}/0") as client:
        with pytest.raises(redis.exceptions.AuthenticationError):
            await client.ping()


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=rf"{port} \(query_service\) .*--port-offset"):
            require_free_ports({"api_gateway": free_port(), "query_service": port})
    with pytest.raises(StartError, match="no port 70000"):
        require_free_ports({"api_gateway": 70000})


def test_a_private_file_is_private_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give its rights away")
def test_postgres_never_runs_as_root(tmp_path: Path, children: list[Child]) -> None:
    postgres = Postgres(tmp_path / "postgres", port=free_port(), log=tmp_path / "log", settings=QUICK)
    child = start(postgres, children)
    assert Path(f"/proc/{child.pid}").stat().st_uid != 0
    child.ask_to_stop()
    assert child.wait(30.0)
    assert child.exit_code == 0

"""The supervisor with children of one line each: restart with backoff, order of stopping, what it says on failure."""

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.supervisor import Child, Interrupted, Program, StartError, Supervisor, rotate

SLEEP = "import time; time.sleep(60)"
# tells the order in which they end
TELL = """
import signal, sys, time
def end(number, frame):
    time.sleep(float(sys.argv[2]))
    with open(sys.argv[3], "a") as log: log.write(sys.argv[1] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
open(sys.argv[4], "w").close()
time.sleep(60)
"""
DEAF = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(60)
"""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def supervisor(said: list[str], clock: Clock) -> Iterator[Supervisor]:
    supervisor = Supervisor(say=said.append, clock=clock)
    yield supervisor
    supervisor.stop()


def program(directory: Path, name: str, code: str, *arguments: str, marker: Path | None = None) -> Program:
    return Program(
        name=name,
        command=[sys.executable, "-c", code, *arguments],
        log=directory / f"{name}.log",
        is_ready=lambda: marker is None or marker.exists(),
        stop_timeout_seconds=5.0,
    )


def kill(child: Child) -> None:
    child.kill()
    assert child.exit_code == -signal.SIGKILL


def only_child(supervisor: Supervisor) -> Child:
    return supervisor._stages[0][0].child


def test_a_dead_child_is_started_again_and_announced(
    tmp_path: Path, supervisor: Supervisor, said: list[str], clock: Clock
) -> None:
    changes: list[dict[str, int]] = []
    supervisor.on_change = lambda: changes.append(supervisor.pids)
    supervisor.start([program(tmp_path, "worker", SLEEP)])
    supervisor.wait_ready()
    first = supervisor.pids["worker"]

    kill(only_child(supervisor))
    supervisor.tick()
    assert "worker" in said[0]
    assert "SIGKILL" in said[0]
    assert not changes, "it waits before it starts it again"
    clock.now += 0.2
    supervisor.tick()

    assert only_child(supervisor).is_running
    assert changes == [{"worker": supervisor.pids["worker"]}]
    assert supervisor.pids["worker"] != first


def test_the_wait_doubles_up_to_a_bound_and_is_forgotten_after_half_a_minute(
    tmp_path: Path, supervisor: Supervisor, said: list[str], clock: Clock
) -> None:
    supervisor.start([program(tmp_path, "worker", SLEEP)])
    supervisor.wait_ready()
    delays = []
    for lived in (0, 0, 0, 0, 0, 0, 0, 31):
        clock.now += lived
        kill(only_child(supervisor))
        supervisor.tick()
        delays.append(supervisor._stages[0][0].delay_seconds)
        clock.now += delays[-1]
        supervisor.tick()
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.2]


def test_the_last_stage_stops_first_and_waits_for_what_is_slow(tmp_path: Path, supervisor: Supervisor) -> None:
    order = tmp_path / "order"
    for name, seconds in (("store", "0"), ("worker", "0.1"), ("gateway", "0.3")):
        marker = tmp_path / f"{name}.ready"
        supervisor.start([program(tmp_path, name, TELL, name, seconds, str(order), str(marker), marker=marker)])
        supervisor.wait_ready()
    supervisor.stop()
    assert order.read_text().split() == ["gateway", "worker", "store"]


def test_members_of_a_stage_stop_together(tmp_path: Path, supervisor: Supervisor) -> None:
    order = tmp_path / "order"
    markers = {name: tmp_path / f"{name}.ready" for name in "abc"}
    supervisor.start(
        [
            program(tmp_path, name, TELL, name, "0.5", str(order), str(path), marker=path)
            for name, path in markers.items()
        ]
    )
    supervisor.wait_ready()
    started_at = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - started_at < 1.4
    assert sorted(order.read_text().split()) == ["a", "b", "c"]


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, supervisor: Supervisor, said: list[str]) -> None:
    marker = tmp_path / "ready"
    deaf = program(tmp_path, "deaf", DEAF, str(marker), marker=marker)
    supervisor.start([Program(**{**vars(deaf), "stop_timeout_seconds": 0.2})])
    supervisor.wait_ready()
    child = only_child(supervisor)
    supervisor.stop()
    assert child.exit_code == -signal.SIGKILL
    assert "deaf" in said[-1]


def test_a_child_that_never_starts_stops_the_start_with_its_own_words(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.clock = time.monotonic
    broken = program(tmp_path, "broken", "raise SystemExit('API_SECRET_KEY is not set')", marker=tmp_path / "never")
    supervisor.start([broken])
    with pytest.raises(StartError, match=r"broken .*API_SECRET_KEY is not set"):
        supervisor.wait_ready()


def test_a_stop_asked_for_during_the_start_ends_it(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.is_stopping = lambda: True
    supervisor.start([program(tmp_path, "slow", SLEEP, marker=tmp_path / "never")])
    with pytest.raises(Interrupted):
        supervisor.wait_ready()
    child = only_child(supervisor)
    supervisor.stop()
    assert not child.is_running


def test_a_long_log_is_cut_and_one_older_kept(tmp_path: Path) -> None:
    log = tmp_path / "service.log"
    with log.open("ab") as writer:
        writer.write(b"old\n" * 100)
        writer.flush()
        rotate(log, limit_bytes=1000)
        assert log.stat().st_size == 400, "not long yet"
        rotate(log, limit_bytes=100)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "service.log.1").read_bytes() == b"old\n" * 100

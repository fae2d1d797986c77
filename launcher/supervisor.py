"""Keeps child processes running: starts them, restarts one that dies, stops them in the reverse order."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
HEALTHY_AFTER_SECONDS = 30.0
DEATHS_ALLOWED_WHILE_STARTING = 5
TICK_SECONDS = 0.1
LOG_CHECK_SECONDS = 10.0
LOG_LIMIT_BYTES = 32 * 1024 * 1024


class StartError(Exception):
    """Something could not be started; the message is one sentence for the person at the terminal."""


class Interrupted(Exception):
    """A stop was asked for while the start was still going on."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run and how to tell that it serves. `privileges` are options of setpriv(1)."""

    name: str
    command: Sequence[str]
    log: Path
    is_ready: Callable[[], bool]
    environment: Mapping[str, str] | None = None
    directory: Path | None = None
    privileges: Sequence[str] = ()
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_seconds: float = 30.0


class Child:
    """One program and the process that runs it now."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def exit_code(self) -> int | None:
        """None while it runs and before it was started; minus the signal's number when a signal ended it."""
        return self._process.poll() if self._process is not None else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        program = self.program
        with program.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the launcher alone, which then stops all in order.
            self._process = subprocess.Popen(
                [*_setpriv(program), *program.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=program.environment,
                cwd=program.directory,
                start_new_session=True,
            )

    def wait_ready(self, timeout_seconds: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not self.program.is_ready():
            if not self.is_running:
                raise StartError(f"{self.program.name} ended at its start: {last_line(self.program.log)}")
            if time.monotonic() > deadline:
                raise StartError(f"{self.program.name} was not ready after {timeout_seconds:.0f} s.")
            time.sleep(0.02)

    def ask_to_stop(self) -> None:
        if self._process is not None and self.is_running:
            self._process.send_signal(self.program.stop_signal)

    def wait(self, timeout_seconds: float) -> bool:
        """Whether it ended in time."""
        if self._process is None:
            return True
        try:
            self._process.wait(max(timeout_seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> bool:
        """Asks, waits, and kills what does not listen. False when it had to be killed."""
        self.ask_to_stop()
        if self.wait(self.program.stop_timeout_seconds):
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """SIGKILL, to the process and whatever it started in its session."""
        if self._process is not None and self.is_running:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()
        self.wait_ready()


@dataclass
class _Watched:
    """A child with its restart book-keeping."""

    child: Child
    started_at: float
    delay_seconds: float = 0.0
    restart_at: float | None = None
    deaths: int = 0


@dataclass
class Supervisor:
    """Children in stages: a stage is stopped when the one started after it has ended.

    `is_stopping` is asked between any two steps, `on_change` is called whenever a process id has changed.
    """

    say: Callable[[str], None]
    is_stopping: Callable[[], bool] = lambda: False
    on_change: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    _stages: list[list[_Watched]] = field(default_factory=list)
    _logs_checked_at: float = 0.0

    @property
    def pids(self) -> dict[str, int]:
        return {w.child.program.name: w.child.pid for w in self._watched() if w.child.pid is not None}

    def start(self, programs: Sequence[Program]) -> None:
        """Starts one more stage, without waiting for it."""
        stage: list[_Watched] = []
        self._stages.append(stage)
        for program in programs:
            child = Child(program)
            child.start()
            stage.append(_Watched(child, self.clock()))

    def wait_ready(self, *, timeout_seconds: float = 60.0) -> None:
        """Returns when all that was started serves."""
        deadline = self.clock() + timeout_seconds
        waiting = self._watched()
        while waiting := [w for w in waiting if not (w.child.is_running and w.child.program.is_ready())]:
            for watched in waiting:
                name, log = watched.child.program.name, watched.child.program.log
                if watched.deaths >= DEATHS_ALLOWED_WHILE_STARTING:
                    raise StartError(f"{name} keeps ending at its start: {last_line(log)} (see {log})")
                if self.clock() > deadline:
                    raise StartError(f"{name} was not ready after {timeout_seconds:.0f} s; see {log}.")
            self._rest()

    def run(self) -> None:
        """Watches until a stop is asked for."""
        while True:
            try:
                self._rest()
            except Interrupted:
                return

    def tick(self) -> None:
        """One look at every child."""
        now = self.clock()
        for watched in self._watched():
            child = watched.child
            if child.is_running:
                continue
            if watched.restart_at is None:
                watched.delay_seconds = self._next_delay(watched, now)
                watched.restart_at = now + watched.delay_seconds
                watched.deaths += 1
                self.say(
                    f"{child.program.name} (pid {child.pid}) ended, {_reason(child.exit_code)}; "
                    f"starting it again in {watched.delay_seconds:.1f} s"
                )
            elif now >= watched.restart_at:
                child.start()
                watched.started_at, watched.restart_at = now, None
                self.say(f"{child.program.name} started again as pid {child.pid}")
                self.on_change()
        if now - self._logs_checked_at >= LOG_CHECK_SECONDS:
            self._logs_checked_at = now
            for watched in self._watched():
                rotate(watched.child.program.log, limit_bytes=LOG_LIMIT_BYTES)

    def stop(self) -> None:
        """Last stage first; the members of one stage together."""
        while self._stages:
            children = [watched.child for watched in self._stages.pop()]
            for child in children:
                child.ask_to_stop()
            asked_at = time.monotonic()
            for child in children:
                limit = child.program.stop_timeout_seconds
                if not child.wait(asked_at + limit - time.monotonic()):
                    self.say(f"{child.program.name} did not stop within {limit:.0f} s and is killed")
                    child.kill()

    def _watched(self) -> list[_Watched]:
        return [watched for stage in self._stages for watched in stage]

    def _rest(self) -> None:
        if self.is_stopping():
            raise Interrupted
        self.tick()
        time.sleep(TICK_SECONDS)

    @staticmethod
    def _next_delay(watched: _Watched, now: float) -> float:
        if watched.delay_seconds == 0.0 or now - watched.started_at >= HEALTHY_AFTER_SECONDS:
            return FIRST_DELAY_SECONDS
        return min(watched.delay_seconds * 2, LONGEST_DELAY_SECONDS)


def rotate(log: Path, *, limit_bytes: int) -> None:
    """Keeps one older log beside the current one.

    The file is copied and cut rather than renamed because its writers hold it open; they append, so they go on at the
    new end. Lines written between the copy and the cut are lost, which a development log can bear.
    """
    if log.exists() and log.stat().st_size > limit_bytes:
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)


def last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 8192, 0))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it wrote nothing to its log"


def _setpriv(program: Program) -> list[str]:
    """Ends the child when the launcher is killed, so that nothing is left holding a port or a data directory."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    return [setpriv, *program.privileges, "--pdeathsig", program.stop_signal.name.removeprefix("SIG"), "--"]


def _reason(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"

"""One command for everything: `python3 scripts/run.py COMMAND`.

Needs nothing but Python: it makes `.venv` at the root of the repository from `requirements.lock`, then runs the command
in it. The second time that costs nothing.
"""

from __future__ import annotations  # so that an old Python still reaches the sentence that says so

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
INPUTS = ("requirements.lock", "pyproject.toml", "client_sdk/pyproject.toml")
CHECKED = ("services", "shared", "launcher", "migrations", "client_sdk", "tests", "scripts", "benchmarks", ".ci")

USAGE = """usage: python3 scripts/run.py COMMAND [ARGUMENTS]

  up [--demo] [--data-dir D] [--port-offset N]   the whole platform on this machine
     [--fsync always|everysec] [--processors N] [--gateways N]
  test [PYTEST ARGUMENTS]                        every test, on real stores it starts itself
  lint, format                                   what CI checks; and its mechanical part, done
  bench [ARGUMENTS]                              the benchmarks
  sdk-example [NAME]                             an example of the client library against a running platform
  openapi [SERVICE], check-config, migrate       describe the API; print the settings; migrate DATABASE_URL
  keys generate                                  print a new API key, for USAGE_ADMIN_KEY
  api-gateway, event-processor,                  one service, with the settings in the environment
  query-service, aggregation-service
  docker-build, docker-up, docker-down           the same platform in containers
"""


def main(arguments: Sequence[str]) -> None:
    if sys.version_info < (3, 11):  # noqa: UP036  (the one file that may be run by any Python)
        fail(f"Python 3.11 or newer is needed, and this is {sys.version.split()[0]}.")
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help", "help"):
        print(USAGE, end="")
    elif name in COMMANDS:
        COMMANDS[name](rest)
    else:
        fail(f"There is no command {name!r}; see `python3 scripts/run.py --help`.")


# --- the commands


def python(*command: str) -> Callable[[Sequence[str]], None]:
    """A command that is a Python module or file."""

    def run(arguments: Sequence[str]) -> None:
        ensure_environment()
        execute(str(PYTHON), *command, *arguments)

    return run


def docker(*command: str) -> Callable[[Sequence[str]], None]:
    def run(arguments: Sequence[str]) -> None:
        if shutil.which("docker") is None:
            fail("Docker is not installed; `python3 scripts/run.py up` runs the same platform without it.")
        os.chdir(ROOT)
        execute("docker", *command, *arguments)

    return run


def test(arguments: Sequence[str]) -> None:
    ensure_environment()
    os.chdir(ROOT)
    execute(str(PYTHON), "-m", "pytest", *arguments)


def lint(_arguments: Sequence[str]) -> None:
    """All checks, also after one has failed: one run names everything there is to repair."""
    ensure_environment()
    os.chdir(ROOT)
    paths = [path for path in CHECKED if Path(path).exists()]
    checks = [
        ["ruff", "check", *paths],
        ["ruff", "format", "--check", *paths],
        ["mypy"],
        ["lint-imports"],
    ]
    failed = []
    for check in checks:
        print("$", *check[: 3 if check[1:2] == ["format"] else 2], flush=True)
        if subprocess.run([str(ENVIRONMENT / "bin" / check[0]), *check[1:]]).returncode:
            failed.append(check[0])
    if failed:
        fail(f"Failed: {', '.join(failed)}.")


def reformat(_arguments: Sequence[str]) -> None:
    ensure_environment()
    os.chdir(ROOT)
    paths = [path for path in CHECKED if Path(path).exists()]
    ruff = str(ENVIRONMENT / "bin" / "ruff")
    subprocess.run([ruff, "check", "--fix-only", *paths])
    execute(ruff, "format", *paths)


def sdk_example(arguments: Sequence[str]) -> None:
    folder = ROOT / "client_sdk" / "examples"
    names = sorted(path.stem for path in folder.glob("*.py"))
    name, *rest = arguments or names[:1]
    if name not in names:
        fail(f"There is no example {name!r}; there are: {', '.join(names)}.")
    python(str(folder / f"{name}.py"))(rest)


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    "up": python("-m", "launcher.cli", "up"),
    "test": test,
    "lint": lint,
    "format": reformat,
    "bench": python("-m", "benchmarks"),
    "sdk-example": sdk_example,
    "openapi": python("-m", "launcher.cli", "openapi"),
    "check-config": python("-m", "launcher.cli", "check-config"),
    "keys": python("-m", "launcher.cli", "keys"),
    "migrate": python("-m", "launcher.cli", "migrate"),
    "api-gateway": python("-m", "services.api_gateway"),
    "event-processor": python("-m", "services.event_processor"),
    "query-service": python("-m", "services.query_service"),
    "aggregation-service": python("-m", "services.aggregation_service"),
    "docker-build": docker("compose", "build"),
    "docker-up": docker("compose", "up", "--build", "--detach", "--wait"),
    "docker-down": docker("compose", "down"),
}


# --- the environment


def ensure_environment() -> None:
    """Makes `.venv`, or brings it up to date when the lock or a pyproject.toml has changed."""
    stamp = ENVIRONMENT / "stamp"
    wanted = fingerprint()
    if is_current(stamp, wanted):
        return
    ENVIRONMENT.mkdir(exist_ok=True)
    with (ENVIRONMENT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two that start at once, the second waits and finds it made
        if is_current(stamp, wanted):
            return
        print("Preparing .venv (once, about a minute)…", file=sys.stderr, flush=True)
        # the database's programs are in there, and they may have to run as another user
        os.umask(0o022)
        if not PYTHON.exists():
            with suppress(FileNotFoundError):
                PYTHON.unlink()  # a link to a Python that is gone
            step(
                [sys.executable, "-m", "venv", str(ENVIRONMENT)],
                "Python's venv failed (on Debian: install python3-venv)",
            )
        pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        step(
            [*pip, "--require-hashes", "-r", str(ROOT / "requirements.lock")], "pip could not install requirements.lock"
        )
        editable = ["--no-deps", "--no-build-isolation", "-e", str(ROOT), "-e", str(ROOT / "client_sdk")]
        step([*pip, *editable], "pip could not install this repository")
        stamp.write_text(wanted)


def fingerprint() -> str:
    digest = hashlib.sha256(str(ROOT).encode())  # an environment does not survive being moved
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def is_current(stamp: Path, wanted: str) -> bool:
    return PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted


def step(command: Sequence[str], sentence: str) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout, file=sys.stderr, end="")
        fail(f"{sentence}: see above.")


def execute(program: str, *arguments: str) -> None:
    """Becomes the program: signals and the exit code need no passing on."""
    sys.stdout.flush()
    # tools that the program starts come from the environment, and a Python path from outside does not leak into it
    os.environ["PATH"] = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ.pop("PYTHONPATH", None)
    os.execvp(program, [program, *arguments])  # noqa: S606  (no shell is wanted)


def fail(sentence: str) -> NoReturn:
    sys.exit(sentence)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)

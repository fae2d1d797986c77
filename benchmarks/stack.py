"""A stack of one's own to measure: `usage up` in a temporary directory, stopped at the end."""

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil


@asynccontextmanager
async def running_stack(*, port_offset: int, fsync: str, processors: int) -> AsyncIterator[dict[str, Any]]:
    """Yields what stack.json says. The data lies under the system's temporary directory."""
    with tempfile.TemporaryDirectory(prefix="usage-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # the database runs as a user of its own when we are root
        description = directory / "data" / "stack.json"
        log = (directory / "launcher.log").open("w")
        arguments = ["--data-dir", str(directory / "data"), "--port-offset", str(port_offset)]
        arguments += ["--fsync", fsync, "--processors", str(processors)]
        process = subprocess.Popen(
            [sys.executable, "-m", "launcher.cli", "up", *arguments], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            for _ in range(600):
                if description.exists():
                    break
                if process.poll() is not None:
                    raise SystemExit((directory / "launcher.log").read_text())
                await asyncio.sleep(0.1)
            yield json.loads(description.read_text())
        finally:
            process.terminate()
            process.wait(60)
            log.close()


def peak_memory_megabytes(pids: dict[str, int]) -> dict[str, int]:
    """The largest resident size each process has had, from the kernel's own account."""
    peaks = {}
    for name, pid in pids.items():
        if not psutil.pid_exists(pid):
            continue
        status = Path(f"/proc/{pid}/status").read_text()
        peaks[name] = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) // 1024
    return peaks


def cpu_seconds(pids: dict[str, int]) -> dict[str, float]:
    """Processor time each process and its children have used so far; "generator" is this one."""
    used = {"generator": sum(psutil.Process().cpu_times()[:2])}
    for name, pid in pids.items():
        if not psutil.pid_exists(pid):
            continue
        process = psutil.Process(pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
        used[name] = sum(time.user + time.system for time in times)
    return used

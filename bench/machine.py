"""What the figures were taken on: processor, memory, versions."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench import toolbox

_ROOT = Path(__file__).resolve().parent.parent


def describe() -> dict[str, Any]:
    """Return the machine: processor, cores, memory in GB, system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": _system(),
        "kernel": platform.release(),
    }


def versions(postgresql: str = "") -> dict[str, str]:
    """Return the versions of the engine, Python and all tools beside that of PostgreSQL, if any."""
    found = {
        "harmattan": _commit(),
        "python": platform.python_version(),
        "psycopg": version("psycopg"),
        **({"postgresql": postgresql} if postgresql else {}),
    }
    for tool in toolbox.ALL:
        for pin in tool.pins:
            name, _, number = pin.partition("==")
            found[name.partition("[")[0]] = number
    return found


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=_ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"

"""The tools that are measured beside the engine, each in a venv of its own, none reporting home."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from frame.failure import Failure
from frame.progress import step
from scripts.shell import NO_TELEMETRY

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTALL = 900.0  # seconds
# Whatever a tool tries beyond its two databases ends at a closed port of this machine; database
# drivers do not look at these.
_NOWHERE = {
    name: "http://127.0.0.1:9"
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
}


@dataclass(frozen=True)
class Tool:
    """A tool by its packages, pinned; ``environment`` turns its telemetry off and tunes it."""

    name: str
    title: str
    pins: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self, home: Path) -> dict[str, str]:
        """Return the environment to run it with; it keeps its state under ``home``."""
        state = home / "state" / self.name
        state.mkdir(parents=True, exist_ok=True)
        # dlt of root keeps its state under /var unless told otherwise.
        places = {"HOME": str(state), "DLT_DATA_DIR": str(state)}
        return {**NO_TELEMETRY, **_NOWHERE, **self.environment, **places}


GENERATOR = Tool("tpchgen", "tpchgen-cli", ("tpchgen-cli==4.0.0",))
# The last of Sling whose binary is in a wheel: later ones fetch it at their first run.
SLING = Tool(
    "sling",
    "Sling 1.4.11",
    ("sling-linux-amd64==1.4.11",),
    {"SLING_DISABLE_TELEMETRY": "TRUE", "SLING_LOADED_AT_COLUMN": "false"},
)
# As above: the last of ingestr with its binary in the wheel.
INGESTR = Tool("ingestr", "ingestr 0.15.9", ("ingestr==0.15.9",), {"DISABLE_TELEMETRY": "true"})
DLT = Tool(
    "dlt",
    "dlt 1.31.0",
    (
        "dlt[postgres,parquet,sql-database]==1.31.0",
        "adbc-driver-manager==1.13.0",
        "adbc-driver-postgresql==1.13.0",
        "connectorx==0.4.6",
        "psycopg2-binary==2.9.13",
        "pyarrow==26.0.1",
        "sqlalchemy==2.1.9",
    ),
    {
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        # Files of half a million rows, so that several are loaded side by side: a tenth to a
        # third faster than one file.
        "DATA_WRITER__FILE_MAX_ITEMS": "450000",  # no divisor of the rows: an empty last file fails
        "LOAD__WORKERS": "4",
    },
)
TAP = Tool("tap", "tap-postgres 0.10.0", ("meltanolabs-tap-postgres==0.10.0",))
TARGET = Tool("target", "target-postgres 0.8.1", ("meltanolabs-target-postgres==0.8.1",))
ALL = (GENERATOR, SLING, INGESTR, DLT, TAP, TARGET)


def install(tool: Tool, folder: Path) -> Path:
    """Return the venv of ``tool`` in ``folder``, made now if it is not there.

    Raises Failure where its packages do not install here.
    """
    venv = folder / tool.name
    stamp = venv / "pins"
    wanted = "\n".join(tool.pins)
    if stamp.exists() and stamp.read_text() == wanted:
        return venv
    shutil.rmtree(venv, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with step(f"install {tool.title}"):
        _uv("venv", "--python", sys.executable, str(venv))
        _uv("pip", "install", "--python", str(venv / "bin" / "python"), *tool.pins)
        stamp.write_text(wanted)
    return venv


def sling(venv: Path) -> Path:
    """Return Sling's program in its venv."""
    found = next(venv.glob("lib/*/site-packages/sling_linux_amd64/bin/sling-*"), None)
    if found is None:
        raise Failure(f"{SLING.title} carries no program here", "It is for Linux on amd64.")
    found.chmod(0o755)
    return found


def _uv(*words: str) -> None:
    try:
        done = subprocess.run(
            [Path(sys.executable).parent / "uv", "--quiet", *words],
            capture_output=True, text=True, check=False, timeout=_INSTALL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Failure(
            f"uv {words[0]} did not end within {_INSTALL:.0f} s", "Run this again."
        ) from None
    if done.returncode:
        raise Failure(f"does not install here: {done.stderr.strip()[-300:]}", "See what uv says.")

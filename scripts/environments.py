#!.venv/bin/python
"""Python environments beside .venv, for programs whose packages disagree with the platform's."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frame.application import Application, exit_codes
from frame.failure import WrongUse
from frame.progress import step
from scripts.repository import ROOT, TOOLS
from scripts.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCKS = ROOT / "requirements"
ENVIRONMENTS = TOOLS / "environments"
# The lock files that .venv does not hold.
BESIDE = ("dbt", "meltano", "superset")


def place(lock: Path) -> Path:
    """Return the folder of the environment that ``lock`` makes with the Python that runs this."""
    made_from = f"{sys.version}\n".encode() + lock.read_bytes()
    return ENVIRONMENTS / hashlib.sha256(made_from).hexdigest()[:16]


def ensure(name: str) -> Path:
    """Return the environment of ``requirements/NAME.txt``, making it if it is not there (seconds).

    Its programs are in ``bin``. The folder is whole or not there, and of several callers at once
    one makes it. A lock that changes gets another folder; `make clean` removes them all.
    Raises :class:`WrongUse` if there is no such lock, and Failure if uv cannot install it.
    """
    lock = LOCKS / f"{name}.txt"
    if not lock.exists():
        raise WrongUse(
            f"there is no lock file requirements/{name}.txt",
            "Name a lock file of requirements/, or write it with `make lock`.",
        )
    made = place(lock)
    if made.exists():
        return made
    with step(f"make the environment of requirements/{name}.txt"), _alone(made):
        if not made.exists():
            _make(name, lock, made)
    return made


def packages(name: str) -> Path:
    """Return the folder of the environment's packages. Raises what :func:`ensure` raises."""
    (folder,) = ensure(name).glob("lib/python*/site-packages")
    return folder


def _make(name: str, lock: Path, made: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    unfinished = made.with_suffix(".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    # Relocatable: its programs find their Python after the folder got its name.
    run(
        f"environment-{name}",
        [uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, unfinished],
    )
    run(
        f"environment-{name}",
        [uv, "pip", "sync", "--quiet", "--compile-bytecode", "--python", unfinished, lock],
        timeout=900,  # 650 MB through a slow line; a minute is usual
    )
    unfinished.rename(made)


@contextmanager
def _alone(made: Path) -> Iterator[None]:
    """Wait until nobody else makes ``made``; the system ends the lock with its holder."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


app = Application("scripts/environments.py")


@app.command(epilog=exit_codes({0: "it is there", 1: "it could not be made"}))
def main(
    name: Annotated[str, typer.Argument(help=f"A lock file's name: {' or '.join(BESIDE)}.")],
) -> None:
    """Print the folder of an environment; make it if it is not there."""
    print(ensure(name))


if __name__ == "__main__":
    app.run()

#!.venv/bin/python
"""Stop the local platform; keep everything, or remove its data, or all that it made."""

from __future__ import annotations

import shutil
import subprocess
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape

from frame.application import Application, exit_codes
from frame.failure import Failure
from frame.output import screen
from frame.progress import step
from scripts.local import agents, engine, processes
from scripts.local.images import LABEL
from scripts.repository import HOME, TOOLS
from scripts.shell import run

console = screen(stderr=True)

# How long the jobs may take to stop; a worker would finish its tasks for longer than that.
STOP_TIMEOUT = 120.0


def leftover_containers() -> list[str]:
    """Return the ids of containers of this platform's images, running or not."""
    if not engine.running():
        return []
    answer = subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return answer.stdout.split()


def stop() -> None:
    """Stop jobs, agents and the Docker engine if it was started here."""
    if processes.find("nomad"):
        with step("drain this node and stop Nomad"):
            try:
                agents.drain(STOP_TIMEOUT)
            except Failure as error:
                # A task that runs for longer, or a set-up that never ended: stopped all the same.
                console.print(f"[yellow]![/] {escape(error.message)}")
            processes.stop("nomad")
    if containers := leftover_containers():
        with step(f"stop {len(containers)} containers"):
            run("docker-stop", ["docker", "stop", "--time=20", *containers], timeout=STOP_TIMEOUT)
            run("docker-rm", ["docker", "rm", "--force", *containers], timeout=STOP_TIMEOUT)
    if processes.find("vault"):
        with step("stop Vault"):
            processes.stop("vault")


def remove_images() -> None:
    """Remove the images that were built here; they are with the engine, which is started for it."""
    if shutil.which("dockerd") or engine.running():
        engine.ensure()
        answer = run("docker-images", ["docker", "images", "--quiet", f"--filter=label={LABEL}"])
        if tags := sorted(set(answer.split())):
            with step(f"remove {len(tags)} images"):
                run("docker-rmi", ["docker", "rmi", "--force", *tags])


def remove_data() -> None:
    """Remove the data, the logs and the secrets."""
    with step("remove data, logs and secrets"):
        for mount in sorted(_mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", mount], timeout=30, check=False)
        shutil.rmtree(HOME)


def _mounts() -> list[str]:
    with open("/proc/mounts") as file:
        return [line.split()[1] for line in file if line.split()[1].startswith(f"{HOME}/")]


class Remove(StrEnum):
    """What goes beside the processes."""

    NOTHING = "nothing"
    DATA = "data"
    ALL = "all"


app = Application("scripts/local/down.py")


@app.command(epilog=exit_codes())
def main(
    *,
    remove: Annotated[
        Remove,
        typer.Option(help="Remove data, logs and secrets (data), or images and tools too (all)."),
    ] = Remove.NOTHING,
) -> None:
    """Stop the local platform.

    What programs share stays: Debian's packages, and the caches of Go, pip, uv and Docker's builds.
    """
    stop()
    if remove is Remove.ALL:
        remove_images()
    processes.stop("dockerd")
    if remove is not Remove.NOTHING and HOME.exists():
        remove_data()
    if remove is Remove.ALL and TOOLS.exists():
        shutil.rmtree(TOOLS)


if __name__ == "__main__":
    app.run()

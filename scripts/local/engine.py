"""The Docker engine: the running one, else Debian's, installed and started here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from frame.failure import Failure
from frame.progress import step
from scripts.local import processes
from scripts.shell import run


def running() -> bool:
    """Tell whether a Docker engine answers."""
    if not shutil.which("docker"):
        return False
    answer = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"],
        capture_output=True,
        timeout=30,
        check=False,
    )
    return answer.returncode == 0


def obtainable() -> bool:
    """Tell whether :func:`ensure` could install and start an engine: Debian, and root."""
    return os.geteuid() == 0 and Path("/etc/debian_version").exists()


def ensure() -> None:
    """Leave a Docker engine running.

    Raises :class:`Failure` where none runs and none can be installed.
    """
    if running():
        return
    if not obtainable():
        raise Failure(
            "no Docker engine answers, and it can be installed here only on Debian as root",
            "Install and start Docker 20.10 or newer, and run the same command again.",
        )
    if not shutil.which("dockerd"):
        with step("install Debian's docker.io"):
            install_packages("docker.io")
    with step("start the Docker engine"):
        processes.start("dockerd", ["dockerd"])
        processes.wait_for("dockerd", running, timeout=90)


def install_packages(*names: str) -> None:
    """Install Debian packages without asking."""
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-update", ["apt-get", "update", "-q"], environment=environment)
    run(
        "apt-install",
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *names],
        environment=environment,
        timeout=900,
    )

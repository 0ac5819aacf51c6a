"""What must hold before anything is changed; all faults are told at once."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import psutil

from frame.failure import Failure
from scripts.local import engine, processes
from scripts.local.home import ADDRESS, IMAGE_VARIABLES, PORTS
from scripts.repository import ROOT
from scripts.tools import TOOLCHAIN, find

# Images 3 GB, Go's build cache 4 GB, and room for the data.
DISK = 10 * 1000**3
# The programs that a step of `make up` calls, and the Debian package that has each.
PROGRAMS = {
    "git": "git",
    "ssh": "openssh-client",
    "gpg": "gnupg",
    "tar": "tar",
    "zstd": "zstd",
}

Fault = tuple[str, str]  # what is wrong, and the way out


def check() -> None:
    """Raise one :class:`Failure` that names every fault and its way out."""
    faults = [*privileges(), *programs(), *disk(), *ports()]
    if faults:
        raise Failure(
            "this machine is not ready, and nothing but .venv was changed:\n"
            + "\n".join(f"  - {what}" for what, _ in faults),
            "\n" + "\n".join(f"  - {way_out}" for _, way_out in faults),
        )


def privileges() -> list[Fault]:
    """Find out whether this is root."""
    if os.geteuid() != 0:
        return [("not root, which Nomad's client and the volumes need", "Run it as root.")]
    return []


def programs() -> list[Fault]:
    """Find programs that are neither there nor can be installed or built here."""
    faults = []
    missing = [tool.name for tool in TOOLCHAIN if find(tool) is None]
    if missing and not shutil.which("go"):
        faults.append(
            (
                f"no {' and no '.join(missing)} on PATH, and no Go to build it",
                "Install Nomad 1.11 and Vault 1.20 or newer, or Go 1.26.",
            )
        )
    if not engine.running() and not engine.obtainable():
        faults.append(("no Docker engine answers", "Install and start Docker 20.10 or newer."))
    absent = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if absent and not engine.obtainable():
        faults.append((f"not installed: {', '.join(absent)}", "Install these packages."))
    return faults


def disk() -> list[Fault]:
    """Find too little room for a first run; after one, the images are there."""
    docker = Path("/var/lib/docker") if Path("/var/lib/docker").exists() else Path("/var/lib")
    for path in (ROOT, docker):
        if (free := shutil.disk_usage(path).free) < DISK and not IMAGE_VARIABLES.exists():
            return [
                (
                    f"{free / 1000**3:.1f} GB free at {path}, and {DISK // 1000**3} GB are needed",
                    f"Free some disk at {path}.",
                )
            ]
    return []


def ports() -> list[Fault]:
    """Find ports that another program listens on; those of a running platform are its own."""
    if processes.find("nomad"):
        return []
    listening = {
        connection.laddr.port
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr.ip in {ADDRESS, "0.0.0.0", "::", "127.0.0.1"}  # noqa: S104
    }
    if processes.find("vault"):
        listening -= set(PORTS["Vault"])
    return [
        (
            f"port {port}, which {who} needs, is taken",
            f"Stop what listens there (ss -ltnp 'sport = :{port}').",
        )
        for who, needed in PORTS.items()
        for port in needed
        if port in listening
    ]


def install_programs() -> None:
    """Install the Debian packages of programs that are not there."""
    absent = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if absent:
        engine.install_packages(*absent)


def address_is_there() -> bool:
    """Tell whether this host has the Docker bridge's usual address."""
    with socket.socket() as probe:
        try:
            probe.bind((ADDRESS, 0))
        except OSError:
            return False
    return True

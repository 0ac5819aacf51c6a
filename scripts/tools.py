#!.venv/bin/python
"""The toolchain: ``nomad`` and ``vault`` from PATH if new enough, else built from Go modules."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from frame.application import Application, exit_codes
from frame.failure import Failure, WrongUse
from frame.progress import step
from scripts.repository import ROOT, TOOLS
from scripts.shell import run

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Tool:
    """A program of the toolchain; ``minimum`` is the oldest version that the job files run on."""

    name: str
    minimum: tuple[int, int, int]
    package: str
    tags: str = ""


NOMAD = Tool("nomad", (1, 11, 3), "github.com/hashicorp/nomad")
# `minimal` leaves out the secret engines and auth methods that the platform does not use.
VAULT = Tool("vault", (1, 20, 0), "github.com/hashicorp/vault", tags="minimal")
TOOLCHAIN = (NOMAD, VAULT)


def new_enough(version_line: str, minimum: tuple[int, int, int]) -> bool:
    """Tell whether ``nomad version``'s or ``vault version``'s answer is ``minimum`` or newer."""
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", version_line)
    return found is not None and tuple(map(int, found.groups())) >= minimum


def find(tool: Tool) -> Path | None:
    """Return the tool on PATH or the one built here, ``None`` if neither is new enough."""
    for candidate in (shutil.which(tool.name), str(TOOLS / tool.name)):
        if candidate and (path := shutil.which(candidate)):
            answer = subprocess.run(
                [path, "version"], capture_output=True, text=True, timeout=30, check=False
            )
            if new_enough(answer.stdout, tool.minimum):
                return ROOT / path
    return None


def ensure(tool: Tool) -> Path:
    """Return the path of ``tool``, building it under ``.tools`` if it is not there (minutes)."""
    if found := find(tool):
        return found
    with step(f"build {tool.name} from its Go module"):
        TOOLS.mkdir(exist_ok=True)
        unfinished = TOOLS / f".{tool.name}.part"
        run(
            f"build-{tool.name}",
            ["go", "build", "-ldflags=-s -w", f"-tags={tool.tags}",
             "-o", unfinished, tool.package],
            cwd=ROOT / "scripts/toolchain" / tool.name,
            timeout=1500,  # 7 minutes on 2 idle cores; twice that beside the image builds
        )  # fmt: skip
        unfinished.rename(TOOLS / tool.name)
    if found := find(tool):
        return found
    raise Failure(
        f"the {tool.name} that was built does not say {'.'.join(map(str, tool.minimum))} or newer",
        f"Remove .tools/{tool.name} and run the same command again.",
    )


app = Application("scripts/tools.py")


@app.command(epilog=exit_codes({0: "they are there", 1: "one could not be built"}))
def main(
    names: Annotated[list[str] | None, typer.Argument(help="nomad, vault; both if none.")] = None,
) -> None:
    """Print the tools' paths; build those that are not there (minutes each)."""
    known = [tool.name for tool in TOOLCHAIN]
    if unknown := sorted({*(names or ())} - {*known}):
        raise WrongUse(f"there is no tool {', '.join(unknown)}", f"Name {' or '.join(known)}.")
    for tool in TOOLCHAIN:
        if not names or tool.name in names:
            print(ensure(tool))


if __name__ == "__main__":
    app.run()

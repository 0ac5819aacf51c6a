"""Starts Meltano in a container: `start.py WORD…` runs `meltano WORD…` with the secrets of its job.

They stand in the file that CONTAINER_SECRETS names, a JSON object of variables, and get into the
environment of Meltano alone; the file goes when it is read, where that is allowed. The image is
read-only, so Meltano works on a copy of the project, in the working directory. What fails asks for
another try by exit code 75; what meltano.yml does not have is an error by exit code 2, as another
try would not find it either.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

if TYPE_CHECKING:
    from types import FrameType

PROJECT = Path(__file__).resolve().parent
WRITTEN = ("run", "logs")  # of the folder .meltano; all else of it is as it was installed
AGAIN = 75


def main(words: list[str]) -> int:
    """Run `meltano` with ``words`` and return the exit code."""
    secret = variables()
    check(words, YAML(typ="safe").load(PROJECT / "meltano.yml"))
    environment = {**os.environ, **secret, "MELTANO_PROJECT_ROOT": str(copied())}
    program = Path(sys.executable).with_name("meltano")
    with subprocess.Popen([program, *words], env=environment) as meltano:

        def forward(number: int, _frame: FrameType | None) -> None:
            meltano.send_signal(number)

        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, forward)
        code = meltano.wait()
    return AGAIN if code == 1 else code


def check(words: list[str], project: dict[str, Any]) -> None:
    """End with exit code 2 at an environment, or at a job of `run`, that the project has not."""
    at = words.index("run") if "run" in words else len(words)
    given = {
        "environments": [
            word.partition("=")[2] for word in words[:at] if word.startswith("--environment=")
        ],
        "jobs": [word for word in words[at + 1 :] if not word.startswith("-")],
    }
    for kind, names in given.items():
        there = [each["name"] for each in project[kind]]
        for name in names:
            if name not in there:
                print(f"{name!r}: expected one of the project's {kind} ({', '.join(there)})\n"
                      "HINT: Correct what the file in containers/ says in `meta`.",
                      file=sys.stderr)  # fmt: skip
                sys.exit(2)


def variables() -> dict[str, str]:
    """Return the job's secrets by the variables that they are; none where no file is named."""
    file = os.environ.get("CONTAINER_SECRETS")
    if not file:
        return {}
    try:
        found = {
            str(name): str(value) for name, value in json.loads(Path(file).read_text()).items()
        }
    except (OSError, ValueError, AttributeError):
        # What the file holds is not repeated.
        sys.exit(f"{file}: expected a JSON object of variables, found something else or nothing\n"
                 "HINT: Look at what Vault holds for this container.")  # fmt: skip
    with suppress(OSError):  # a folder that is not ours keeps it
        Path(file).unlink()
    return found


def copied() -> Path:
    """Copy the project into the working directory, less what was installed, and return its path."""
    here = Path.cwd() / "project"
    shutil.rmtree(here, ignore_errors=True)
    shutil.copytree(PROJECT, here, ignore=shutil.ignore_patterns(".meltano"))
    (here / ".meltano").mkdir()
    for each in (PROJECT / ".meltano").iterdir():
        if each.name not in WRITTEN:
            (here / ".meltano" / each.name).symlink_to(each)
    return here


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

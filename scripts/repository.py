"""Where things stand: in this repository, and in the folder that one machine keeps its own in."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from frame.failure import WrongUse

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
# What is this machine's alone, and in no commit: logs, secrets, the local platform's data.
HOME = ROOT / ".local"
LOGS = HOME / "logs"
SECRETS = HOME / "secrets"


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` at once and whole, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_secret(name: str) -> Any:
    """Return the local secret ``name``, which only its maker can make again.

    Raises :class:`WrongUse` where it is not kept.
    """
    path = SECRETS / f"{name}.json"
    if not path.exists():
        raise WrongUse(
            f"{path} is gone, or `make up` did not come as far",
            "Put it back and run the same command again, or start again with `make clean`.",
        )
    return json.loads(path.read_text())

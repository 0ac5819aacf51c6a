"""Where things stand: in this repository, and in the folder that one machine keeps its own in."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REGISTRY = ROOT / "backup/databases.toml"
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

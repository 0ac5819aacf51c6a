"""Where the one-machine platform keeps its things, and the addresses it stands at."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from scripts.console import OperatorError

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".tools"
HOME = ROOT / ".local"
LOGS = HOME / "logs"
PID_FILES = HOME / "run"
SECRETS = HOME / "secrets"
VOLUMES = HOME / "volumes"
IMAGE_VARIABLES = HOME / "images.hcl"
VARIABLES = ROOT / "nomad/vars/local.hcl"
REGISTRY = ROOT / "backup/databases.toml"

ENVIRONMENT = "local"
# The address of Docker's default bridge: every container and this host reach each other there,
# and nothing outside this host does.
ADDRESS = "172.17.0.1"
NOMAD_ADDR = f"http://{ADDRESS}:4646"
VAULT_ADDR = f"http://{ADDRESS}:8200"
# The ports of the platform, as nomad/vars/local.hcl and nomad/agents/local.hcl name them.
PORTS = {
    "Nomad": (4646, 4647, 4648),
    "Vault": (8200, 8201),
    "Airflow": (8080,),
    "PostgreSQL": (15432,),
    "the log server": (8793,),
    "Redis": (16379,),
    "the B2 endpoint": (15080,),
    "the analysts' git remote": (15022,),
    "the DAG mirror": (15418,),
}


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


def kept(name: str, make: Any = None) -> Any:
    """Return the local secret ``name``, made by ``make()`` (default: a random word) the first time.

    Kept as JSON under ``.local/secrets`` with mode 600, so that a second ``make up`` finds it.
    """
    path = SECRETS / f"{name}.json"
    if not path.exists():
        value = make() if make else secrets.token_urlsafe(24)
        write_private(path, json.dumps(value))
    return json.loads(path.read_text())


def found(name: str) -> Any:
    """Return the local secret ``name``, which only its maker can make again.

    Raises :class:`OperatorError` where it is not kept.
    """
    if not (SECRETS / f"{name}.json").exists():
        raise OperatorError(
            f"{SECRETS}/{name}.json is gone, or `make up` did not come as far",
            "Put it back and run the same command again, or begin anew with `make clean`.",
        )
    return kept(name)

"""Where the one-machine platform keeps its things, and the addresses it stands at."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.jobs import Namespaces
from scripts.repository import HOME, ROOT, SECRETS, write_private

if TYPE_CHECKING:
    from pathlib import Path

PID_FILES = HOME / "run"
VOLUMES = HOME / "volumes"
IMAGE_VARIABLES = HOME / "images.hcl"
KEY_VARIABLES = HOME / "keys.hcl"
VARIABLES = ROOT / "nomad/vars/local.hcl"


@dataclass(frozen=True)
class Environment:
    """One environment on this machine: `make up` has one, and a test a second beside it.

    ``prefix`` begins the names of its host volumes and secrets and, with an underscore, of its
    databases and their roles: what it shares a server with the other for.
    """

    name: str
    namespaces: Namespaces
    variables: Path
    prefix: str = ""

    @property
    def databases(self) -> str:
        """What the names of its databases and roles begin with."""
        return self.prefix.replace("-", "_")

    def kept(self, name: str, make: Any = None) -> Any:
        """Return a secret of its own, as :func:`kept`."""
        return kept(f"{self.prefix}{name}", make)


LOCAL = Environment("local", Namespaces(), VARIABLES)
ENVIRONMENT = LOCAL.name
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
    "Superset": (8088,),
    "PostgreSQL": (15432,),
    "the log server": (8793,),
    "Redis": (16379, 16380),
    "the B2 endpoint": (15080,),
    "the analysts' git remote": (15022,),
    "the DAG mirror": (15418,),
}


def kept(name: str, make: Any = None) -> Any:
    """Return the local secret ``name``, made by ``make()`` (default: a random word) the first time.

    Kept as JSON under ``.local/secrets`` with mode 600, so that a second ``make up`` finds it.
    """
    path = SECRETS / f"{name}.json"
    if not path.exists():
        value = make() if make else secrets.token_urlsafe(24)
        write_private(path, json.dumps(value))
    return json.loads(path.read_text())

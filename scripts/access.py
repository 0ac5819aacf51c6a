"""How the operators' commands reach a platform: this machine's, or the environment's."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import requests

from backup.settings import Settings
from frame.failure import Failure, WrongUse
from scripts import cluster
from scripts.jobs import Namespaces
from scripts.repository import HOME, read_secret, write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scripts.cluster import Nomad

KEPT = HOME / "access.json"
JOBS = "NOMAD_NAMESPACE"
RUNS = "NOMAD_RUNS_NAMESPACE"
POSTGRES = "POSTGRES_SERVERS"
# What the environment must hold for a platform that is not this machine's; none is a secret but
# the tokens and the password, which come as variables because that is how these tools take them.
NAMES = {
    "NOMAD_ADDR": "Nomad's address",
    "NOMAD_TOKEN": "a token with the policy of nomad/acl/platform.policy.hcl",
    "VAULT_ADDR": "Vault's address",
    "AIRFLOW_URL": "the webserver's address",
    "AIRFLOW_USERNAME": "an Airflow account of the role Platform",
    "AIRFLOW_PASSWORD": "its password",
    "DAG_MIRROR_URL": "the DAG mirror's address, git://host:port",
    "BACKUP_SECRETS_DIR": "a directory with b2.json, a B2 key that may list and read, and with "
    "signers.json and manifest_key.asc, which open manifests",
    "BACKUP_B2_REALM": "production, or the endpoint's URL",
    "BACKUP_BUCKET": "the bucket of the backups",
    "BACKUP_PREFIX": "the environment's folder in it",
}
# The same for ``--help``, and what it may hold besides.
VARIABLES = [
    *NAMES.items(),
    ("NOMAD_CACERT", "file of the cluster's own CA, if it has one"),
    ("VAULT_CACERT", "the same for Vault"),
    (JOBS, f"Nomad's namespace of the platform's jobs (default: {Namespaces.jobs})"),
    (RUNS, f"the one of what Airflow may launch (default: {Namespaces.runs})"),
    (POSTGRES, "PostgreSQL servers whose certificates are looked at: host:port, with commas"),
]


@dataclass(frozen=True)
class Access:
    """Addresses and credentials of one platform; ``stand_ins`` are jobs that it has beside its own.

    ``values`` has every name of :data:`NAMES`.
    """

    values: Mapping[str, str] = field(repr=False)
    stand_ins: tuple[str, ...] = ()

    @property
    def namespaces(self) -> Namespaces:
        """Where its jobs are."""
        return Namespaces(
            self.values.get(JOBS) or Namespaces.jobs, self.values.get(RUNS) or Namespaces.runs
        )

    @cached_property
    def nomad(self) -> Nomad:
        """A client of Nomad with the platform team's token, which asks for the platform's jobs."""
        return self._nomad(self.namespaces.jobs)

    @cached_property
    def runs(self) -> Nomad:
        """The same, which asks for the jobs that Airflow may launch."""
        return self._nomad(self.namespaces.runs)

    def _nomad(self, namespace: str) -> Nomad:
        return cluster.connect(
            self.values["NOMAD_ADDR"],
            self.values["NOMAD_TOKEN"],
            ca_file=os.environ.get("NOMAD_CACERT"),
            namespace=namespace,
        )

    @cached_property
    def _airflow_token(self) -> str:
        answer = requests.post(
            f"{self.values['AIRFLOW_URL']}/auth/token",
            json={
                "username": self.values["AIRFLOW_USERNAME"],
                "password": self.values["AIRFLOW_PASSWORD"],
            },
            timeout=30,
        )
        if not answer.ok:
            raise Failure(
                f"Airflow at {self.values['AIRFLOW_URL']} lets nobody in:"
                f" {answer.status_code} {answer.reason}",
                "Check AIRFLOW_USERNAME and AIRFLOW_PASSWORD.",
            )
        return str(answer.json()["access_token"])

    def airflow(self, path: str, *, method: str = "GET", **arguments: Any) -> Any:
        """Call Airflow's REST API below ``/api/v2`` and return the answer's JSON.

        Raises :class:`requests.RequestException`.
        """
        answer = requests.request(
            method,
            f"{self.values['AIRFLOW_URL']}/api/v2/{path}",
            headers={"Authorization": f"Bearer {self._airflow_token}"},
            timeout=60,
            **arguments,
        )
        answer.raise_for_status()
        return answer.json() if answer.content else None

    @property
    def backups(self) -> Settings:
        """The settings with which ``backup`` looks into the bucket. Raises WrongUse."""
        return Settings.from_environment(self.values)


def keep(
    addresses: Mapping[str, str], secrets: Mapping[str, str], stand_ins: Sequence[str]
) -> Access:
    """Keep how this machine's platform is reached, where :func:`from_environment` looks.

    ``secrets`` says in which file of ``.local/secrets`` a value is; none is written twice.
    """
    kept = {"addresses": dict(addresses), "secrets": dict(secrets), "stand_ins": list(stand_ins)}
    write_private(KEPT, json.dumps(kept, indent=2))
    return of_this_machine()


def of_this_machine() -> Access:
    """Return the access that ``make up`` kept here. Raises :class:`WrongUse` without one."""
    if not KEPT.exists():
        raise WrongUse("there is no platform on this machine", "Run `make up` first.")
    kept = json.loads(KEPT.read_text())
    secrets = {name: read_secret(file) for name, file in kept["secrets"].items()}
    return Access({**kept["addresses"], **secrets}, tuple(kept["stand_ins"]))


def from_environment() -> Access:
    """Return the access that the environment describes, this machine's if it names no Nomad.

    Raises :class:`WrongUse` that lists every variable that is missing.
    """
    if not os.environ.get("NOMAD_ADDR"):
        return of_this_machine()
    if KEPT.exists():
        here = of_this_machine()
        if here.values["NOMAD_ADDR"] == os.environ["NOMAD_ADDR"]:
            return here
    if missing := [f"{name} ({what})" for name, what in NAMES.items() if not os.environ.get(name)]:
        raise WrongUse(
            f"the environment names a Nomad, and lacks {', '.join(missing)}",
            "Set them, or unset NOMAD_ADDR for this machine's own platform.",
        )
    return Access(dict(os.environ))

"""How the operators' commands reach a platform: this machine's, or the environment's."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import requests

import nomad
from backup.settings import B2_KEY, Settings
from scripts import backblaze
from scripts.console import OperatorError
from scripts.local import ENVIRONMENT, HOME, NOMAD_ADDR, VARIABLES, VAULT_ADDR, kept
from scripts.variables import read_variables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOCAL = "local"
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
    "BACKUP_SECRETS_DIR": "a directory with b2.json, a B2 key that may list and read",
    "BACKUP_B2_REALM": "production, or the endpoint's URL",
    "BACKUP_BUCKET": "the bucket of the backups",
    "BACKUP_PREFIX": "the environment's folder in it",
}


@dataclass(frozen=True)
class Access:
    """Addresses and credentials of one platform."""

    environment: str
    values: Mapping[str, str] = field(repr=False)

    @cached_property
    def nomad(self) -> nomad.Nomad:
        """A client of Nomad with the platform team's token."""
        return nomad.Nomad(
            address=self.values["NOMAD_ADDR"],
            token=self.values["NOMAD_TOKEN"],
            verify=os.environ.get("NOMAD_CACERT") or True,
            timeout=30,
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
            raise OperatorError(
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
        return answer.json()

    @contextmanager
    def backups(self, key: str = "b2-drill") -> Iterator[Settings]:
        """Give the settings with which ``backup`` works on the bucket, here with the kept ``key``.

        Elsewhere the key is what BACKUP_SECRETS_DIR holds.
        """
        if self.environment != LOCAL:
            yield Settings.from_environment(self.values)
            return
        with TemporaryDirectory() as folder:
            text = '{{"key_id": "{key_id}", "key": "{key}"}}'.format(**kept(key))
            (Path(folder) / B2_KEY).write_text(text)
            yield Settings.from_environment({**self.values, "BACKUP_SECRETS_DIR": folder})


def local() -> Access:
    """Return the access to this machine's platform, from what ``make up`` keeps in ``.local``.

    Raises :class:`OperatorError` where ``make up`` never ran.
    """
    if not (HOME / "secrets/nomad-platform.json").exists():
        raise OperatorError("there is no platform on this machine", "Run `make up` first.")
    variables = read_variables(VARIABLES)
    return Access(
        LOCAL,
        {
            "NOMAD_ADDR": NOMAD_ADDR,
            "NOMAD_TOKEN": kept("nomad-platform"),
            "VAULT_ADDR": VAULT_ADDR,
            "AIRFLOW_URL": variables["airflow_url"],
            "AIRFLOW_USERNAME": "admin",
            "AIRFLOW_PASSWORD": kept("airflow-admin"),
            "DAG_MIRROR_URL": variables["dag_mirror_url"],
            "BACKUP_B2_REALM": backblaze.REALM,
            "BACKUP_BUCKET": backblaze.BUCKET,
            "BACKUP_PREFIX": ENVIRONMENT,
        },
    )


def from_environment() -> Access:
    """Return the access that the environment describes, this machine's if it names no Nomad.

    Raises :class:`OperatorError` that lists every variable that is missing.
    """
    if os.environ.get("NOMAD_ADDR", NOMAD_ADDR) == NOMAD_ADDR:
        return local()
    if missing := [f"{name} ({what})" for name, what in NAMES.items() if not os.environ.get(name)]:
        raise OperatorError(
            f"the environment names a Nomad, and lacks {', '.join(missing)}",
            "Set them, or unset NOMAD_ADDR for this machine's own platform.",
        )
    return Access("environment", dict(os.environ))

"""The connection by which the triggerer reaches Nomad, made from the identity that Nomad renews.

The parent of the triggers has it as Airflow's secrets backend, and gives it to the trigger that
asks; the process that runs the triggers holds neither file nor token:

    AIRFLOW__SECRETS__BACKEND        = harmattan.runs.connection.NomadConnection
    AIRFLOW__SECRETS__BACKEND_KWARGS = {"address": "https://…:4646", "token_file": "…",
                                        "namespace": "runs", "ca_file": "…"}
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from urllib.parse import urlsplit

from airflow.secrets import BaseSecretsBackend

CONNECTION = "nomad_runs"

log = logging.getLogger(__name__)


class NomadConnection(BaseSecretsBackend):
    """Knows :data:`CONNECTION` and nothing else.

    The connection's password is the token, its ``extra`` has the namespace and, where the cluster
    has a CA of its own, the certificate in PEM.
    """

    def __init__(self, address: str, token_file: str, namespace: str, ca_file: str = "") -> None:
        super().__init__()
        self.address, self.namespace = urlsplit(address), namespace
        self.token_file, self.ca_file = Path(token_file), Path(ca_file) if ca_file else None

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Return the connection as JSON; None for every other id, or without the token's file.

        The files are read each time: Nomad renews the token.
        """
        if conn_id != CONNECTION:
            return None
        try:
            token = self.token_file.read_text().strip()
            ca = self.ca_file.read_text() if self.ca_file else None
        except OSError as error:
            log.error(
                "connection %s: expected a file that Nomad writes, found: %s\n"
                "HINT: See that the job asks for that identity.",
                conn_id, error,
            )  # fmt: skip
            return None
        return json.dumps(
            {
                "conn_type": "nomad",
                "schema": self.address.scheme,
                "host": self.address.hostname,
                "port": self.address.port,
                "password": token,
                "extra": json.dumps({"namespace": self.namespace, "ca": ca}),
            }
        )

    def get_variable(self, key: str, team_name: str | None = None) -> None:
        """Know no variable."""

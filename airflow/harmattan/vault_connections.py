"""Connections for pipelines, read from Vault at task run time with the workload's own identity."""

from __future__ import annotations

import json

import hvac.exceptions
from airflow.providers.hashicorp.secrets.vault import VaultBackend
from airflow.sdk.exceptions import AirflowSecretsBackendAccessDenied

from frame.trust import rooted, rooted_parameters


class VaultConnections(VaultBackend):
    """The provider's Vault backend, with one difference: a Vault that fails says so.

    Airflow takes any error of a backend for "not there", asks the next one and ends with "conn_id
    isn't defined" (sdk/execution_time/context.py). Only a refusal is passed on to the task, so a
    Vault that is down or denies is raised as one.
    """

    def get_conn_value(self, conn_id: str, team_name: str | None = None) -> str | None:
        """Return the connection ``conn_id`` as a URI, ``None`` if Vault holds no such path.

        Raises :class:`AirflowSecretsBackendAccessDenied` when Vault cannot be asked or denies.
        """
        paths = ", ".join(f"{self.mount_point}/{path}/{conn_id}" for path in self.connections_path)
        try:
            found = super().get_conn_value(conn_id, team_name)
        except (hvac.exceptions.VaultError, OSError) as error:
            # requests' errors are OSErrors, and so is an identity's file that cannot be read. The
            # provider wraps a refusal after its second login (_internal_client/vault_client.py).
            if isinstance(error.__cause__ or error, hvac.exceptions.Forbidden):
                raise AirflowSecretsBackendAccessDenied(
                    f"Vault denies this worker the connection {conn_id!r} ({paths}). "
                    "HINT: Ask the platform team whether this connection is meant for your tasks."
                ) from None
            raise AirflowSecretsBackendAccessDenied(
                f"Vault did not answer when asked for the connection {conn_id!r} ({paths}): "
                f"{type(error).__name__}. HINT: The connection may well be defined; the task can "
                "be run again when the platform team has Vault back."
            ) from None
        return found and _rooted(found)


def _rooted(connection: str) -> str:
    """Return a connection, a URI or Airflow's JSON, whose PostgreSQL finds whom it is to trust."""
    if connection.startswith("postgres"):
        return rooted(connection)
    if not connection.startswith("{"):
        return connection
    parts = json.loads(connection)
    extra = parts.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
    if parts.get("conn_type") not in {"postgres", "postgresql"} or not isinstance(extra, dict):
        return connection
    return json.dumps({**parts, "extra": rooted_parameters(extra)})

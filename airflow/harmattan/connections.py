"""Connections of the pipelines, from the secrets backend that Airflow is given."""

from __future__ import annotations

from airflow.sdk import Connection
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowRuntimeError,
    AirflowSecretsBackendAccessDenied,
)

from ingest.connections import Entry
from ingest.errors import UnknownConnectionError


def resolve(connection_id: str) -> Entry:
    """Return what Airflow's secrets backend holds for ``connection_id``.

    Raises UnknownConnectionError.
    """
    try:
        found = Connection.get(connection_id)
    except (AirflowException, AirflowRuntimeError, AirflowSecretsBackendAccessDenied) as error:
        # A backend that denies or does not answer says why, with a hint of its own.
        reason, _, hint = str(error).partition("HINT: ")
        raise UnknownConnectionError(
            f"connection {connection_id}: expected it in the secrets backend, found:"
            f" {reason.strip()}",
            hint=hint or "Ask the platform team to add it, or to let this worker's role read it.",
        ) from error
    parts = {name: getattr(found, name) for name in ("host", "port", "login", "password", "schema")}
    return Entry(connection_id, str(found.conn_type), "", parts, found.extra_dejson)

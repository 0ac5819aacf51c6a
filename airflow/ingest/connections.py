"""Connections by id: from the environment at a desk, from Airflow's secrets backend in a task."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.errors import DatabaseError, UnknownConnectionError, from_postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = ("postgres", "postgresql")
# What Airflow's PostgresHook keeps to itself (its ignored_extra_options and cursor choice).
_HOOK_EXTRAS = frozenset({"cursor", "sqlalchemy_scheme", "sqlalchemy_query", "change_schema"})

# Values must read the same on both sides, whatever a role or a database sets for itself. Both
# sessions idle on purpose while the other side works; keepalives (seconds) let a server notice
# a client that lost its machine, so that no dead run holds a snapshot or the pipeline's lock.
_SETTINGS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmloption": "content",
    "row_security": "off",  # rows hidden by a policy are an error, never a smaller copy
    "lock_timeout": "10min",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}


@dataclass(frozen=True)
class Address:
    """Where a database is and how to log in, as libpq's parameters; never printed."""

    id: str
    parameters: Mapping[str, Any] = field(repr=False)


def from_environment(connection_id: str) -> Address:
    """Return the address in ``AIRFLOW_CONN_<ID>``, a URI or Airflow's JSON.

    Raises UnknownConnectionError without ever repeating the value.
    """
    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UnknownConnectionError(
            f"connection {connection_id}: expected {variable} in the environment, found nothing",
            hint=f"export {variable}=postgresql://user:password@host:5432/database",
        )
    if not value.startswith("{"):
        return _address(connection_id, value.partition(":")[0], value)
    try:
        found = json.loads(value)
        extra = found.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except json.JSONDecodeError:
        raise _malformed(connection_id, "text that is no JSON") from None
    return _address(connection_id, str(found.get("conn_type")), "", _parameters(found, extra))


def from_airflow(connection_id: str) -> Address:
    """Return the address that the running task's secrets backend holds for ``connection_id``."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowRuntimeError,
        AirflowSecretsBackendAccessDenied,
    )

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
    kind = str(found.conn_type)
    return _address(connection_id, kind, "", _parameters(parts, found.extra_dejson))


def connect(address: Address, *, side: str, purpose: str) -> psycopg.Connection[Any]:
    """Open a session in autocommit whose settings are the same everywhere.

    ``purpose`` is what DBAs see in pg_stat_activity. Raises IngestError.
    """
    parameters = {
        "connect_timeout": 10,  # seconds; Airflow's retries are the ones that wait
        **address.parameters,
        "application_name": purpose,
        "client_encoding": "UTF8",
    }
    try:
        connection = psycopg.connect(**parameters, autocommit=True)
    except psycopg.Error as error:
        raise DatabaseError(
            f"{side}: expected a connection, found: {str(error).strip()}",
            hint=f"Check that the server is up and what connection {address.id} holds.",
        ) from error
    try:
        connection.execute(
            "SELECT set_config(name, %s::jsonb ->> name, false)"
            " FROM pg_catalog.pg_settings WHERE name = ANY(%s)",
            [json.dumps(_SETTINGS), list(_SETTINGS)],
        )
    except psycopg.Error as error:
        connection.close()
        raise from_postgres(error, side=side, table="pg_settings") from error
    return connection


def _parameters(parts: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        "host": parts.get("host"),
        "port": parts.get("port"),
        "user": parts.get("login"),
        "password": parts.get("password"),
        "dbname": parts.get("schema"),
    }
    kept = {name: value for name, value in extra.items() if name not in _HOOK_EXTRAS}
    return kept | {name: value for name, value in named.items() if value not in (None, "")}


def _address(
    connection_id: str, kind: str, uri: str, parameters: Mapping[str, Any] | None = None
) -> Address:
    if kind not in _KINDS:
        raise _malformed(connection_id, "another kind")
    try:
        found = conninfo_to_dict(make_conninfo(uri, **(parameters or {})))
    except psycopg.ProgrammingError:
        raise _malformed(connection_id, "a parameter that libpq does not know") from None
    return Address(connection_id, found)


def _malformed(connection_id: str, found: str) -> UnknownConnectionError:
    return UnknownConnectionError(
        f"connection {connection_id}: expected a PostgreSQL connection, found {found}",
        hint="It takes a postgresql:// URI, or JSON with conn_type, host, port, login, password,"
        " schema and libpq's parameters in extra.",
    )

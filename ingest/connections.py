"""Connections by id: from the environment, or from whoever runs the engine (``Job.resolve``)."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import urlencode, urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.errors import DatabaseError, UnknownConnectionError, from_postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = ("postgres", "postgresql")
_WEB = ("http", "https")
_ID = re.compile(r"[A-Za-z0-9_.-]+")
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
    "array_nulls": "on",
    "lc_monetary": "C",
    "xmloption": "content",
    "row_security": "off",  # rows hidden by a policy are an error, never a smaller copy
    "lock_timeout": "10min",
    "idle_in_transaction_session_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}

# The same for the client, which otherwise would wait for hours for a server that lost its machine.
_PARAMETERS = {
    "connect_timeout": 10,  # seconds; Airflow's retries are the ones that wait
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
    "tcp_user_timeout": 120_000,  # milliseconds
}

# Only the end of staging and what publishes wait for the disk (ingest.run, ingest.publish): such a
# commit makes everything before it last, too, and until then a crash may well take a load with it.
_WAREHOUSE_SETTINGS = {
    "synchronous_commit": "off",
    # Sessions that stage beside each other would end one another if they were serialisable.
    "default_transaction_isolation": "read committed",
}
# The first statement of every session: an operator of a schema that others may create in would be
# called for ours, if its types fit better.
_SEARCH_PATH: LiteralString = "SET search_path = pg_catalog, pg_temp"
# Operators of extensions' types have no other names: citext has an `=` of its own. A schema in
# which more roles may create than could do anything here anyway is not among them.
_EXTENSIONS_PATH: LiteralString = """
    (WITH trusted AS (
      SELECT r.oid FROM pg_roles r JOIN pg_database d ON d.datname = current_database()
      WHERE r.rolsuper OR r.oid = d.datdba OR r.rolname IN (current_user, 'pg_database_owner')
    )
    SELECT set_config('search_path', concat_ws(', ', 'pg_catalog',
      string_agg(DISTINCT quote_ident(n.nspname), ', '), 'pg_temp'), false)
    FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
    WHERE n.nspname <> 'pg_catalog' AND n.nspowner IN (SELECT oid FROM trusted)
      AND NOT EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.privilege_type = 'CREATE'
                      AND a.grantee NOT IN (SELECT oid FROM trusted)))
"""
# What libpq's text of a failed connection means, by a part of it. The text itself is never shown:
# where a password was not written as a URI wants it, a piece of it stands there for the host.
_CAUSES = (
    ("password authentication failed", "a user or a password that the server refuses"),
    ("no password supplied", "no password where the server wants one"),
    ("no pg_hba.conf entry", "a server that does not let this user in from here (pg_hba.conf)"),
    ("too many connections", "a server without room for another connection"),
    ("connection slots are reserved", "a server without room for another connection"),
    ("connection limit exceeded", "a server without room for another connection"),
    ("the database system is", "a server that starts, stops or recovers"),
    ("not permitted to log in", "a role that may not log in"),
    ("permission denied for database", "a role that may not connect to the database"),
    ("does not exist", "a user or a database that the server does not have"),
    ("Connection refused", "nothing that listens there"),
    ("resolve host", "a host whose name has no address"),
    ("translate host name", "a host whose name has no address"),
    ("timeout expired", "no answer in time"),
    ("timed out", "no answer in time"),
    ("unreachable", "no way to the host"),
    ("certificate", "a certificate that is not trusted"),
    ("SSL", "no agreement about SSL"),
    ("closed the connection", "a server that closed the connection"),
)
_IDLE_SESSIONS = 140_000  # the first version that may end them


@dataclass(frozen=True)
class Entry:
    """What stands behind a connection id; never printed. ``uri`` is empty if ``parts`` tell all."""

    id: str
    kind: str
    uri: str = field(default="", repr=False)
    parts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Address:
    """Where a database is and how to log in, as libpq's parameters; never printed."""

    id: str
    parameters: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Webhook:
    """Where alerts are posted; its URL may hold a token and is never printed."""

    id: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def from_environment(connection_id: str) -> Entry:
    """Return what ``AIRFLOW_CONN_<ID>`` holds, a URI or Airflow's JSON.

    Raises UnknownConnectionError without ever repeating the value.
    """
    if not _ID.fullmatch(connection_id):  # perhaps it is a URI, with a password
        raise UnknownConnectionError(
            "expected a connection id, found something else than letters, digits, _, . and -",
            hint="Put the URI in AIRFLOW_CONN_<ID>; give the id here.",
        )
    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UnknownConnectionError(
            f"connection {connection_id}: expected {variable} in the environment, found nothing",
            hint=f"export {variable}=postgresql://user:password@host:5432/database",
        )
    if not value.startswith("{"):
        return Entry(connection_id, value.partition(":")[0], value)
    try:
        found = json.loads(value)
        extra = found.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except json.JSONDecodeError:
        raise _malformed(connection_id, "text that is no JSON") from None
    if not isinstance(extra, dict):
        raise _malformed(connection_id, "an extra that is no JSON object")
    return Entry(connection_id, str(found.get("conn_type")), "", found, extra)


def postgres(entry: Entry) -> Address:
    """Return the database that ``entry`` tells of. Raises UnknownConnectionError."""
    if entry.kind not in _KINDS:
        raise _malformed(entry.id, "another kind")
    parts = entry.parts
    named = {
        "host": parts.get("host"),
        "port": parts.get("port"),
        "user": parts.get("login"),
        "password": parts.get("password"),
        "dbname": parts.get("schema"),
    }
    kept = {name: value for name, value in entry.extra.items() if name not in _HOOK_EXTRAS}
    kept |= {name: value for name, value in named.items() if value not in (None, "")}
    try:
        found = conninfo_to_dict(make_conninfo(entry.uri, **kept))
    except psycopg.ProgrammingError:
        raise _malformed(entry.id, "a parameter that libpq does not know") from None
    except UnicodeEncodeError:
        raise _malformed(entry.id, "bytes that are no UTF-8") from None
    return Address(entry.id, found)


def webhook(entry: Entry) -> Webhook:
    """Return the webhook that ``entry`` tells of. Raises UnknownConnectionError.

    Airflow splits a URI into parts, its path into ``schema``; ``schema`` may also be the protocol.
    """
    parts = entry.parts
    headers = {str(name): str(value) for name, value in (entry.extra.get("headers") or {}).items()}
    url = entry.uri or str(parts.get("host") or "")
    if "://" not in url:
        schema = str(parts.get("schema") or "")
        protocol = schema if schema in _WEB else entry.kind
        path = "" if schema in _WEB else schema
        port = f":{parts['port']}" if parts.get("port") else ""
        query = {name: value for name, value in entry.extra.items() if name != "headers"}
        url = f"{protocol}://{url}{port}/{path}" + (f"?{urlencode(query)}" if query else "")
    split = urlsplit(url)
    if split.scheme not in _WEB or not split.hostname:
        raise UnknownConnectionError(
            f"connection {entry.id}: expected a webhook, found no http or https URL",
            hint="It takes an https:// URI, or JSON with conn_type http and the URL as host.",
        )
    return Webhook(entry.id, url, headers)


def connect(address: Address, *, side: str, purpose: str) -> psycopg.Connection[Any]:
    """Open a session in autocommit whose settings are the same everywhere.

    ``purpose`` is what DBAs see in pg_stat_activity. Raises Failure.
    """
    parameters = {
        **_PARAMETERS,
        **address.parameters,
        "application_name": purpose,
        "client_encoding": "UTF8",
    }
    try:
        connection = psycopg.connect(**parameters, autocommit=True)
    except (psycopg.Error, ValueError) as error:  # the latter from the name of a host
        raise DatabaseError(
            f"{side}: expected a connection, found {_cause(error)}",
            hint=f"Check that the server is up and what connection {address.id} holds; in a URI,"
            " a password's @ : / ? # % and spaces are written as %40 and so on.",
        ) from None
    settings = dict(_SETTINGS)
    if side == "warehouse":
        settings |= _WAREHOUSE_SETTINGS
    if connection.info.server_version >= _IDLE_SESSIONS:
        settings["idle_session_timeout"] = "0"
    wanted: list[sql.Composable] = [
        sql.SQL("set_config({}, {}, false)").format(*pair) for pair in settings.items()
    ]
    if side == "warehouse":
        wanted.append(sql.SQL(_EXTENSIONS_PATH))
    try:
        connection.execute(_SEARCH_PATH)
        connection.execute(sql.SQL("SELECT ") + sql.SQL(", ").join(wanted))
    except psycopg.Error as error:
        connection.close()
        raise from_postgres(error, side=side, table="pg_settings") from error
    return connection


def _cause(error: Exception) -> str:
    text = str(error)
    known = (cause for part, cause in _CAUSES if part in text)
    return next(known, "a server that cannot be reached, or a host, port or database misspelt")


def _malformed(connection_id: str, found: str) -> UnknownConnectionError:
    return UnknownConnectionError(
        f"connection {connection_id}: expected a PostgreSQL connection, found {found}",
        hint="It takes a postgresql:// URI, or JSON with conn_type, host, port, login, password,"
        " schema and libpq's parameters in extra.",
    )

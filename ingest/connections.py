"""Connections by id: from the environment, or from whoever runs the engine (``Job.resolve``)."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import urlencode, urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from frame import refusal
from frame.trust import rooted_parameters
from ingest.errors import DatabaseError, UnknownConnectionError, from_postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS = ("postgres", "postgresql")
_WEB = ("http", "https")
_ID = re.compile(r"[A-Za-z0-9_.-]+")
# What Airflow's PostgresHook keeps to itself (its ignored_extra_options and cursor choice).
_HOOK_EXTRAS = frozenset({"cursor", "sqlalchemy_scheme", "sqlalchemy_query", "change_schema"})

# The first statement of every session: an operator of a schema that others may create in would be
# called for ours, if its types fit better.
_SEARCH_PATH = "pg_catalog, pg_temp"
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
    "xmloption": "content",
    "quote_all_identifiers": "off",  # which types' names would have, too
    "row_security": "off",  # rows hidden by a policy are an error, never a smaller copy
    "lock_timeout": "10min",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
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
_POOLER_WAIT = 2.0  # seconds; PostgreSQL itself answers at once
_OLDEST = 14  # major version of PostgreSQL


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
    except json.JSONDecodeError:
        raise _malformed(connection_id, "text that is no JSON") from None
    return from_parts(connection_id, found)


def from_parts(connection_id: str, parts: Mapping[str, Any]) -> Entry:
    """Return the connection that Airflow's names of its ``parts`` describe.

    Raises UnknownConnectionError without ever repeating a value.
    """
    extra = parts.get("extra") or {}
    try:
        extra = json.loads(extra) if isinstance(extra, str) else extra
    except json.JSONDecodeError:
        raise _malformed(connection_id, "text that is no JSON") from None
    if not isinstance(extra, dict):
        raise _malformed(connection_id, "an extra that is no JSON object")
    return Entry(connection_id, str(parts.get("conn_type")), "", parts, extra)


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
    return Address(entry.id, rooted_parameters(found))


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


def source(address: Address, *, side: str, purpose: str) -> psycopg.Connection[Any]:
    """Open a session that only reads, in transactions of one snapshot (:func:`settle`).

    It leaves no setting behind: a pooler may give its server's session to others between two of its
    transactions. ``purpose`` is what DBAs see in pg_stat_activity. Raises Failure.
    """
    connection = _connect(address, side, purpose)
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    connection.prepare_threshold = None
    return connection


def settle(connection: psycopg.Connection[Any]) -> None:
    """Let values read as everywhere until the transaction ends; no snapshot is taken by it.

    Raises psycopg.Error.
    """
    settings = {"search_path": _SEARCH_PATH, **_SETTINGS}
    local = sql.SQL("; ").join(
        sql.SQL("SET LOCAL {} = {}").format(
            sql.SQL(name), sql.SQL(value) if name == "search_path" else sql.Literal(value)
        )
        for name, value in settings.items()
    )
    connection.execute(local)


def warehouse(address: Address, *, purpose: str) -> psycopg.Connection[Any]:
    """Open a session in autocommit whose settings are the same everywhere. Raises Failure."""
    connection = _connect(address, "warehouse", purpose)
    settings = {**_SETTINGS, **_WAREHOUSE_SETTINGS}
    wanted: list[sql.Composable] = [
        sql.SQL("set_config({}, {}, false)").format(*pair) for pair in settings.items()
    ]
    wanted.append(sql.SQL(_EXTENSIONS_PATH))
    try:
        connection.execute(sql.SQL("SET search_path = {}").format(sql.SQL(_SEARCH_PATH)))
        ((pid, *_),) = connection.execute(
            sql.SQL("SELECT pg_backend_pid(), ") + sql.SQL(", ").join(wanted)
        ).fetchall()
        # A pooler has numbers of its own for its clients.
        if pid != connection.info.backend_pid and _is_shared(connection, address):
            raise DatabaseError(
                "warehouse: expected a session that is ours until it ends, found a pooler that"
                " gives it to others after each transaction",
                hint=f"Point connection {address.id} at PostgreSQL itself, or at a pool whose"
                " pool_mode is session.",
            )
    except psycopg.Error as error:
        connection.close()
        raise from_postgres(error, side="warehouse", table="pg_settings") from error
    except DatabaseError:
        connection.close()
        raise
    return connection


def _is_shared(connection: psycopg.Connection[Any], address: Address) -> bool:
    """Return whether another session takes the server's session that this one has just used."""
    connection.execute("SELECT set_config('harmattan.ours', 'yes', false)")
    cut = threading.Event()
    with closing(_connect(address, "warehouse", "ingest looks for a pooler")) as other:

        def cut_off() -> None:
            cut.set()
            with socket.socket(fileno=os.dup(other.fileno())) as wire:
                wire.shutdown(socket.SHUT_RDWR)

        limit = threading.Timer(_POOLER_WAIT, cut_off)
        limit.start()
        try:
            other.execute("BEGIN")
            other.execute("SELECT pg_backend_pid()")
        except psycopg.OperationalError:  # it waits until we let go of ours
            return False
        else:
            row = connection.execute("SELECT current_setting('harmattan.ours', true)").fetchone()
            return cut.is_set() or row != ("yes",)
        finally:
            limit.cancel()


def _connect(address: Address, side: str, purpose: str) -> psycopg.Connection[Any]:
    parameters = {
        **_PARAMETERS,
        **address.parameters,
        "application_name": purpose,
        "client_encoding": "UTF8",
    }
    try:
        connection = psycopg.connect(**parameters, autocommit=True)
    except (psycopg.Error, ValueError) as error:  # the latter from the name of a host
        cause = refusal.why(error, parameters)
        raise DatabaseError(
            f"{side}: expected a connection, found {cause.words}",
            hint=(cause.hint and f"{cause.hint} It is the server of connection {address.id}.")
            or f"Check that the server is up and what connection {address.id} holds; in a URI,"
            " a password's @ : / ? # % and spaces are written as %40 and so on.",
            transient=cause.passes,
        ) from None
    try:
        expect_version(side, connection.info.server_version)
    except DatabaseError:
        connection.close()
        raise
    return connection


def expect_version(side: str, number: int) -> None:
    """Raise DatabaseError if a server's version, such as 150019, is too old."""
    version = number // 10_000
    if version < _OLDEST:
        raise DatabaseError(
            f"{side}: expected PostgreSQL {_OLDEST} or newer, found {version}",
            hint="Upgrade it: PostgreSQL's own support for it has ended.",
        )


def _malformed(connection_id: str, found: str) -> UnknownConnectionError:
    return UnknownConnectionError(
        f"connection {connection_id}: expected a PostgreSQL connection, found {found}",
        hint="It takes a postgresql:// URI, or JSON with conn_type, host, port, login, password,"
        " schema and libpq's parameters in extra.",
    )

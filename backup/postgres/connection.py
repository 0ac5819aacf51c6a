"""Connections to PostgreSQL that never put a credential where another process can read it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from backup.postgres import names
from backup.settings import DATABASE_URI
from backup.waits import waiting_for
from frame.failure import Failure, WrongUse
from frame.trust import rooted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backup.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]
CONNECT_TIMEOUT = 15  # seconds; a server that does not answer must not hold the job for its 4 hours
# Sessions hold a snapshot or a lock for hours and say nothing: neither a firewall between nor the
# server may take them for dead, and each end is to notice within two minutes if the other is.
KEEPALIVES: dict[str, Any] = {
    "keepalives_idle": 60,
    "keepalives_interval": 10,
    "keepalives_count": 6,
}
LASTING = {
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}
# First of all, so that no object of a database's owner is found in place of PostgreSQL's own. The
# temporary schema comes last: named nowhere, it would be searched first.
SEARCH_PATH = "SET search_path = pg_catalog, pg_temp"
# Of those that the server knows: idle_session_timeout is new in 14, transaction_timeout in 17.
KNOWN_SETTINGS = """
SELECT set_config(name, %s::jsonb ->> name, false) FROM pg_settings WHERE name = ANY(%s)
"""
_SERVER_SAYS = "FATAL:"
INHERITED = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "TZ")


def plain_environment() -> dict[str, str]:
    """Return what a child may inherit: nothing that could redirect or reveal a connection."""
    return {name: os.environ[name] for name in INHERITED if name in os.environ}


@dataclass(frozen=True)
class PostgresUri:
    """A libpq connection string that does not show itself in a traceback or a log."""

    uri: str = field(repr=False)
    origin: str

    def __post_init__(self) -> None:
        """Name the authorities that are trusted, if the URI wants certificates checked by them."""
        object.__setattr__(self, "uri", rooted(self.uri))

    def options(self) -> Iterator[tuple[str, str | None, str]]:
        """Yield keyword, environment variable and value of each option that the URI sets."""
        try:
            parsed = pq.Conninfo.parse(self.uri.encode())
        except (psycopg.Error, UnicodeEncodeError):
            # libpq's own message repeats the string, password and all.
            raise WrongUse(
                f"{self.origin} holds no PostgreSQL connection URI",
                hint="Give postgresql://user:password@host:port/database, specials %-encoded.",
            ) from None
        for option in parsed:
            if option.val is not None:
                variable = option.envvar.decode() if option.envvar else None
                yield option.keyword.decode(), variable, option.val.decode()

    def environment(self) -> dict[str, str]:
        """Return a child's environment: libpq's variables, which only the same user can read."""
        found = {variable: value for _, variable, value in self.options() if variable}
        found.setdefault("PGCONNECT_TIMEOUT", str(CONNECT_TIMEOUT))
        return plain_environment() | found

    def database(self) -> str:
        """Return the name of the database."""
        for keyword, _, value in self.options():
            if keyword == "dbname":
                return value
        raise WrongUse(
            f"{self.origin} names no database",
            hint="End the URI with the database's name, as in postgresql://host/name.",
        )

    def in_database(self, name: str) -> PostgresUri:
        """Return the same login to another database of the same server."""
        self.database()  # a URI that cannot be read is told of as such
        return PostgresUri(make_conninfo(self.uri, dbname=name), self.origin)

    def named(self, application: str) -> PostgresUri:
        """Return the same login for programs whose sessions the server calls ``application``."""
        return PostgresUri(make_conninfo(self.uri, application_name=application), self.origin)

    def with_settings(self, settings: Mapping[str, str]) -> PostgresUri:
        """Return the same login for sessions that begin with these settings, which have no space.

        Behind what the URI itself begins with, so they count.
        """
        own = [value for keyword, _, value in self.options() if keyword == "options"]
        words = [*own, *(f"-c {name}={value}" for name, value in settings.items())]
        return PostgresUri(make_conninfo(self.uri, options=" ".join(words)), self.origin)

    def connect(self, purpose: str, **limits: str) -> Connection:
        """Open a connection in autocommit mode, with no time limit on it but ``limits``.

        Those are settings of the server, such as ``statement_timeout="30s"``. Names come as text
        whatever the database's encoding is, and go back by :mod:`backup.postgres.names`.
        """
        database = self.database()
        with waiting_for("PostgreSQL", f"connection to database {database}"):
            return self._connect(database, purpose, LASTING | limits)

    def connect_to_server(self, purpose: str) -> Connection:
        """Open a connection to whichever database of the server takes this login.

        ``postgres`` if that is there, which not every host has, or its own, or ``template1``.
        """
        refused = None
        for name in dict.fromkeys(("postgres", self.database(), "template1")):
            try:
                return self.in_database(name).connect(purpose)
            except Failure as failure:
                refused = refused or failure
                if _SERVER_SAYS not in failure.message:  # another would have to wait as long
                    break
        assert refused  # noqa: S101 - there is a name
        raise refused

    def _connect(self, database: str, purpose: str, settings: dict[str, str]) -> Connection:
        try:
            connection = psycopg.connect(
                self.uri,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT,
                client_encoding="SQL_ASCII",  # which fits every server, whatever the role has set
                application_name=f"harmattan-{purpose}",
                **KEEPALIVES,
            )
        except psycopg.OperationalError as error:
            raise Failure(
                f"no connection to database {database}: {one_line(error)}",
                hint="Look whether the server is up, reachable from here and knows the role; with"
                " sslmode=verify-full, also whether its certificate is for this host, and its"
                " authority in ca_certificates.",
            ) from error
        try:
            connection.execute(SEARCH_PATH)
            names.settle_encoding(connection)
            connection.execute(KNOWN_SETTINGS, [json.dumps(settings), list(settings)])
        except psycopg.Error as error:
            connection.close()
            raise Failure(
                f"session of database {database} cannot be set up: {one_line(error)}",
                hint="Look whether the server is well.",
            ) from error
        return connection


def source_uri(settings: Settings) -> PostgresUri:
    """Return the URI of what the job backs up. Raises WrongUse."""
    return PostgresUri(settings.secret(DATABASE_URI), str(settings.secret_path(DATABASE_URI)))


def one_line(error: psycopg.Error) -> str:
    """Return the first line of a server's message: what follows may show values of rows."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

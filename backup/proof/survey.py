"""Which databases every server of the registry holds, asked of the servers themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from pydantic import SecretStr

from backup.postgres.connection import PostgresUri, one_line
from backup.settings import SERVERS, read_json
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from backup.registry import Registry
    from backup.settings import Settings

ANSWER = "30s"  # that a server may take, so that one which hangs does not hide the others

# A template of somebody's own, or one that lets nobody in, holds data like any other.
_DATABASES = (
    "SELECT datname FROM pg_database WHERE datname NOT IN ('template0', 'template1') ORDER BY 1"
)
_IDENTITY = "SELECT system_identifier FROM pg_control_system()"


@dataclass(frozen=True)
class Found:
    """What a server holds; servers of one ``identity`` are one, by whatever name or replica."""

    identity: int
    databases: frozenset[str]


def survey(settings: Settings, registry: Registry) -> dict[str, Found | Failure]:
    """Ask every server of the registry what it holds; one that does not answer gives an error."""
    path = settings.secret_path(SERVERS)
    uris = read_json(path, dict[str, SecretStr], '{"postgres": "postgresql://..."}')
    found: dict[str, Found | Failure] = {}
    for server in registry.server:
        if server.name not in uris:
            raise WrongUse(
                f"secret file {path} has no URI of server {server.name}",
                hint=f"Let the job render the one at {server.vault_path}.",
            )
        uri = PostgresUri(uris[server.name].get_secret_value(), f"{server.name} in {path}")
        try:
            found[server.name] = _ask(uri)
        except Failure as error:
            found[server.name] = error
    return found


def _ask(uri: PostgresUri) -> Found:
    with uri.connect("coverage", statement_timeout=ANSWER) as connection:
        try:
            row = connection.execute(_IDENTITY).fetchone()
            names = connection.execute(_DATABASES).fetchall()
        except psycopg.Error as error:
            raise Failure(
                f"server of {uri.origin} does not tell its databases: {one_line(error)}",
                hint="Give the login the right to execute pg_control_system().",
            ) from error
    return Found(int(row[0]) if row else 0, frozenset(str(name) for (name,) in names))

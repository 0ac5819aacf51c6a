"""What an archive says of its database: settings, owner, comment, limit and rights.

pg_restore gives them to a database of the source's name alone, which it makes itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from backup.loading.archive import read_archive
from backup.pipeline import run_tool
from backup.postgres.connection import one_line, plain_environment
from backup.postgres.statements import statements
from backup.restoration.target import open_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backup.postgres.connection import Connection
    from backup.postgres.statements import Statement
    from backup.restoration.target import Grantee, Wanted

# The archive's entries on the database itself, as `pg_restore --list --create` shows them.
_OF_DATABASE = re.compile(
    r"\d+; \d+ \d+ (DATABASE|DATABASE PROPERTIES|(COMMENT|ACL|SECURITY LABEL) - DATABASE) "
)
# Where the database's name stands in what they say.
_NAMED_BY = (("IN", "DATABASE"), ("ALTER", "DATABASE"), ("ON", "DATABASE"))
# Settings that a load must not meet: it could not write, would be somebody else, would leave out
# foreign keys' checks, or would not be understood.
AFTER_THE_LOAD = frozenset(
    {"default_transaction_read_only", "lc_messages", "role", "session_replication_role",
     "transaction_read_only"}
)  # fmt: skip


@dataclass(frozen=True)
class Properties:
    """What an archive says of its database, in SQL on the target: before the load, and after."""

    settings: tuple[str, ...] = ()
    late: tuple[str, ...] = ()


def read_properties(programs: Path, plain: Path, name: str, wanted: Wanted) -> Properties:
    """Return what the archive ``plain`` says of its database, told of the database ``name``.

    Without owner and rights if owners are skipped. Raises Failure.
    """
    head: list[str | Path] = [programs / "pg_restore", "--create"]
    listed = run_tool([*head, "--list", plain], plain_environment())
    chosen = plain.with_name("properties")
    chosen.write_text("\n".join(filter(_OF_DATABASE.match, listed.splitlines())) + "\n")
    script = run_tool(
        [*head, f"--use-list={chosen}", "--file=-", plain], plain_environment(),
        read_archive(plain).encoding, "surrogateescape",
    )  # fmt: skip
    return sort_properties(script, name, owners=wanted.owners == "keep")


def sort_properties(script: str, name: str, *, owners: bool) -> Properties:
    """Return the statements of pg_restore's ``script`` that are on the database, by when."""
    settings, late = [], []
    for statement in statements(script):
        if _is_authorization(statement):
            late += [statement.text] if owners else []
            continue
        place = _place_of_name(statement)
        if place is None:
            continue
        setting = statement.tokens[place + 2].name if _sets(statement, place) else None
        if setting is not None and setting not in AFTER_THE_LOAD:
            settings.append(statement.renamed(place, name))
        elif setting is not None or owners or not _is_of_owners(statement, place):
            late.append(statement.renamed(place, name))
    return Properties(tuple(settings), tuple(late))


def _place_of_name(statement: Statement) -> int | None:
    if not statement.tokens[0].is_word("ALTER", "COMMENT", "GRANT", "REVOKE", "SECURITY"):
        return None
    for words in _NAMED_BY:
        if found := statement.name_after(*words):
            return found[0]
    return None


def _sets(statement: Statement, place: int) -> bool:
    return place + 2 < len(statement.tokens) and statement.tokens[place + 1].is_word("SET")


def _is_of_owners(statement: Statement, place: int) -> bool:
    return statement.tokens[0].is_word("GRANT", "REVOKE") or statement.tokens[place + 1].is_word(
        "OWNER"
    )


def _is_authorization(statement: Statement) -> bool:
    return any(statement.begins(verb, "SESSION", "AUTHORIZATION") for verb in ("SET", "RESET"))


def apply(connection: Connection, spoken: Sequence[str]) -> tuple[str, ...]:
    """Execute each statement, and return what PostgreSQL said against those that it refused."""
    refused = []
    for statement in spoken:
        try:
            with connection.transaction():
                connection.execute(statement.encode("utf-8", "surrogateescape"))
        except psycopg.Error as error:
            refused.append(one_line(error))
    return tuple(refused)


def open_as_it_was(
    connection: Connection, grantees: Sequence[Grantee], properties: Properties
) -> tuple[str, ...]:
    """Give the database its owner, limit, comment and rights, and open it, at one stroke.

    Returns what PostgreSQL refused.
    """
    with connection.transaction():
        open_to(connection, grantees)
        return apply(connection, properties.late)

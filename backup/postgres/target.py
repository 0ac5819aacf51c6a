"""The database that a backup is restored into: made, found empty, and given roles and settings."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, LiteralString

import psycopg
from psycopg import sql

from backup.pipeline import run_tool
from backup.postgres.connection import one_line, plain_environment
from backup.postgres.contents import list_tables
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from backup.manifest import Source
    from backup.postgres.connection import PostgresUri

KeepOrSkip = Literal["keep", "skip"]
# pg_database.datlocprovider: libc is what CREATE DATABASE takes if nothing is said.
_PROVIDERS: dict[str, LiteralString] = {
    "i": "LOCALE_PROVIDER icu ICU_LOCALE {}",
    "b": "LOCALE_PROVIDER builtin BUILTIN_LOCALE {}",
}
_SETTING = re.compile(
    r'^(ALTER DATABASE |ALTER ROLE (?:"(?:[^"]|"")+"|\w+) IN DATABASE )'
    r'(?:"(?:[^"]|"")+"|\w+) (SET .*?);$',
    re.MULTILINE | re.DOTALL,
)

# Anything that a user made, extensions' own objects aside. A composite type is a relation too.
CONTENTS = """
SELECT told FROM (
  SELECT 'schema ' || nspname AS told, tableoid AS class, oid FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
  UNION ALL
  SELECT 'relation ' || oid::regclass, tableoid, oid FROM pg_class
  WHERE relnamespace = to_regnamespace('public')
  UNION ALL
  SELECT 'type ' || oid::regtype, tableoid, oid FROM pg_type
  WHERE typnamespace = to_regnamespace('public') AND typtype IN ('d', 'e', 'r')
  UNION ALL
  SELECT 'function ' || oid::regproc, tableoid, oid FROM pg_proc
  WHERE pronamespace = to_regnamespace('public')
  UNION ALL
  SELECT 'large object ' || oid, tableoid, oid FROM pg_largeobject_metadata
  UNION ALL
  SELECT 'publication ' || pubname, tableoid, oid FROM pg_publication
  UNION ALL
  SELECT 'event trigger ' || evtname, tableoid, oid FROM pg_event_trigger) AS made
WHERE NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = made.class AND d.objid = made.oid AND d.deptype = 'e')
LIMIT 3
"""

log = get_logger(__name__)


@dataclass(frozen=True)
class Wanted:
    """How a restore is to be done.

    ``owners``: keep them and all privileges, or own everything oneself. ``create`` makes the
    database if there is none of that name and gives an empty one the original's settings,
    ``create_roles`` makes the roles that are missing, without a login. ``tables``, as
    ``schema.table``, are all that is restored, into a database that may hold other things, as it
    may with ``beside``, and into ``schema`` if that is given; ``excluded`` tables are left out.
    ``tablespaces`` are kept, or everything goes to the target's default. ``keep_going``: an object
    that does not load is listed, and the rest comes. ``jobs`` load beside each other; a single one
    loads in one transaction, and so does what comes to a database that holds other things.
    """

    jobs: int
    owners: KeepOrSkip = "keep"
    create: bool = False
    create_roles: bool = False
    tables: tuple[str, ...] = ()
    beside: bool = False
    excluded: tuple[str, ...] = ()
    schema: str = ""
    tablespaces: KeepOrSkip = "keep"
    keep_going: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is one transaction, which a failure undoes."""
        return self.jobs == 1 or self.beside or bool(self.tables)


def create_database(target: PostgresUri, source: Source) -> None:
    """Make the target database like ``source``, if it is not there."""
    clauses = [
        sql.SQL(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}"
        ).format(
            sql.Identifier(target.database()),
            *map(sql.Literal, (source.encoding, source.collate, source.ctype)),
        )
    ]
    if source.provider in _PROVIDERS:
        clauses.append(sql.SQL(_PROVIDERS[source.provider]).format(sql.Literal(source.locale)))
    with target.in_database("postgres").connect("restore") as connection:
        try:
            with suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(sql.SQL(" ").join(clauses))
        except psycopg.Error as error:
            raise Failure(
                f"database {target.database()} cannot be created: {one_line(error)}",
                hint="Create it as you want it, TEMPLATE template0, and restore without --create.",
            ) from error


def check_target(connection: psycopg.Connection[tuple[Any, ...]], wanted: Wanted) -> bool:
    """Raise if what comes would meet something; return whether the database is empty."""
    database = connection.info.dbname
    contents = [name for (name,) in connection.execute(CONTENTS)]
    met = [] if wanted.beside else contents
    if wanted.tables:
        there = {f"{schema}.{table}" for schema, table in list_tables(connection)}
        met = [f"relation {table}" for table in wanted.tables if table in there]
    if met:
        raise Failure(
            f"target database {database} is not empty: it has {', '.join(met)}",
            hint="Restore into a new database, which --create makes, or give --beside.",
        )
    return not contents


def provide_roles(
    connection: psycopg.Connection[tuple[Any, ...]], source: Source, wanted: Wanted
) -> None:
    """Raise if roles are missing that own or may do something, or make them if that is wanted."""
    if wanted.owners == "skip":
        return
    known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    missing = [role for role in source.roles if role not in known]
    if missing and not wanted.create_roles:
        raise Failure(
            f"target server has no role {', '.join(missing)}",
            hint="Create them, give --create-roles, or --owners skip to own everything yourself.",
        )
    for role in missing:
        try:
            with suppress(psycopg.errors.DuplicateObject):
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
        except psycopg.Error as error:
            raise Failure(
                f"role {role} cannot be created: {one_line(error)}",
                hint="Give a login with CREATEROLE, or --owners skip to own everything yourself.",
            ) from error
        log.info("role created, without a login", role=role)


def apply_settings(pg_bin: Path, plain: Path, target: PostgresUri) -> None:
    """Set on the target what ALTER DATABASE and ALTER ROLE … IN DATABASE had set on the source.

    pg_restore does so only to a database of the source's name. One that cannot be set is told in
    the log: the rows are there, and worth more.
    """
    listed = run_tool([pg_bin / "pg_restore", "--list", plain], plain_environment())
    properties = [line for line in listed.splitlines() if " DATABASE PROPERTIES " in line]
    chosen = plain.with_name("properties")
    chosen.write_text("\n".join(properties))
    script = run_tool(
        [pg_bin / "pg_restore", "--create", f"--use-list={chosen}", "--file=-", plain],
        plain_environment(),
    )
    name = sql.Identifier(target.database())
    with target.connect("restore") as connection:
        for whose, setting in _SETTING.findall(script):
            before = sql.SQL(whose)  # as pg_restore has quoted it
            try:
                connection.execute(sql.SQL("{}{} {}").format(before, name, sql.SQL(setting)))
            except psycopg.Error as error:
                log.warning("setting not restored", setting=setting, why=one_line(error))

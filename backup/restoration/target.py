"""The database that a backup is restored into: made, and closed to others while it fills.

Closed means that CONNECT is revoked from all but its owner. ALLOW_CONNECTIONS would shut out
pg_restore too, and a CONNECTION LIMIT an owner who is no superuser.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, LiteralString

import psycopg
from psycopg import sql

from backup.postgres.connection import one_line
from backup.postgres.names import Quoted
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.manifest import Source
    from backup.postgres.connection import Connection, PostgresUri

KeepOrSkip = Literal["keep", "skip"]
# By pg_database.datlocprovider. If nothing is said it is that of the template, which may be any.
_PROVIDERS: dict[str, LiteralString] = {
    "c": "LOCALE_PROVIDER libc",
    "i": "LOCALE_PROVIDER icu ICU_LOCALE {}",
    "b": "LOCALE_PROVIDER builtin BUILTIN_LOCALE {}",
}
_PROVIDERS_SINCE = 150_000  # server_version_num; before, there is the C library alone
CONNECTABLE = """
SELECT acl.grantee, r.rolname, bool_or(acl.is_grantable)
FROM pg_database d
CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS acl
LEFT JOIN pg_roles r ON r.oid = acl.grantee
WHERE d.datname = current_database() AND acl.privilege_type = 'CONNECT'
  AND acl.grantee <> d.datdba
GROUP BY 1, 2 ORDER BY 1
"""

DEFAULT_TABLESPACE = "pg_default"

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
    that does not load is listed, and the rest comes. ``check``: what came back is compared.
    ``any_locale``: the rows matter, not the order that a library of the source's gives them.
    ``jobs`` load in parallel; a single one loads in one transaction, and so does what comes to a
    database that holds other things, unless ``keep_going``.
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
    check: bool = False
    any_locale: bool = False

    @property
    def everything(self) -> bool:
        """Whether the whole database is restored, into an empty one."""
        return not (self.beside or self.tables)

    @property
    def whole(self) -> bool:
        """Whether it is one transaction, which a failure undoes."""
        if self.keep_going:
            return False
        return self.jobs == 1 or self.beside or bool(self.tables)


def create_database(target: PostgresUri, source: Source, wanted: Wanted) -> bool:
    """Make the target database like ``source``, and return whether it was not there before.

    Of ``wanted.any_locale``: a locale of the C library that the server has not gives way to its
    nearest plain one.
    """
    with target.connect_to_server("restore") as connection:
        chooses = connection.info.server_version >= _PROVIDERS_SINCE

        def create(*, plain: bool) -> None:
            clauses = _creation(target.database(), source, wanted, plain=plain, chooses=chooses)
            connection.execute(clauses)

        try:
            create(plain=False)
        except psycopg.errors.DuplicateDatabase:
            return False
        except psycopg.Error as error:
            why = one_line(error)
        else:
            return True
        try:
            if wanted.any_locale:
                create(plain=True)
                log.warning("made with a plain locale", database=target.database(), why=why)
                return True
        except psycopg.Error as error:
            why = one_line(error)
    raise Failure(
        f"database {target.database()} cannot be created: {why}",
        hint="Create it as you want it, TEMPLATE template0, and restore without --create.",
    )


def _creation(
    name: str, source: Source, wanted: Wanted, *, plain: bool, chooses: bool
) -> sql.Composed:
    """Return CREATE DATABASE; ``plain`` takes the C library's UTF-8 or no locale at all.

    ``chooses``: the server has more than one provider of locales.
    """
    usual = "C.UTF-8" if source.encoding == "UTF8" else "C"
    collate, ctype = (usual, usual) if plain else (source.collate, source.ctype)
    clauses = [
        sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}")
        .format(Quoted(name), *map(sql.Literal, (source.encoding, collate, ctype)))
    ]  # fmt: skip
    if source.provider in _PROVIDERS and chooses:
        clauses.append(sql.SQL(_PROVIDERS[source.provider]).format(sql.Literal(source.locale)))
        if source.icu_rules:
            clauses.append(sql.SQL("ICU_RULES {}").format(sql.Literal(source.icu_rules)))
    if source.tablespace != DEFAULT_TABLESPACE and wanted.tablespaces == "keep":
        clauses.append(sql.SQL("TABLESPACE {}").format(Quoted(source.tablespace)))
    return sql.SQL(" ").join(clauses)


# How the database's comment begins while it is closed. Behind it stand who could connect before and
# the comment that there was: a restore that is killed leaves it for the next, and for people.
# No setting: those of a name of one's own take a superuser.
_CLOSED = "closed by Harmattan while it is restored: "
_COMMENT = """
SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True)
class Grantee:
    """Who may connect: a role, or everybody if ``name`` is None, and whether he may pass it on."""

    name: str | None
    passes_on: bool

    def whom(self) -> sql.Composable:
        """Return it as GRANT and REVOKE have it."""
        return sql.SQL("PUBLIC") if self.name is None else Quoted(self.name)


def close_to_others(connection: Connection) -> tuple[Grantee, ...]:
    """Revoke CONNECT on the session's database from all but its owner; return who had it.

    Or who had it before a restore that never came to an end. Says so in the log if this login may
    not revoke: then others can look at what is not whole yet.
    """
    database = Quoted(connection.info.dbname)
    there = [Grantee(name, passes) for _, name, passes in connection.execute(CONNECTABLE)]
    comment, before = _left_closed(connection)
    there += [each for each in before if each not in there]
    mark = _CLOSED + json.dumps([comment, [(each.name, each.passes_on) for each in there]])
    revoke = sql.SQL("REVOKE CONNECT ON DATABASE {} FROM {} CASCADE")
    closing = [
        _comment_on(database, mark),
        *(revoke.format(database, each.whom()) for each in there),
    ]
    try:
        with connection.transaction():
            for statement in closing if there else ():
                connection.execute(statement)
    except psycopg.Error as error:
        log.warning("others can connect before it is whole", why=one_line(error))
        return ()
    if left := connection.execute(CONNECTABLE).fetchall():
        log.warning("others can connect before it is whole", roles=[name for _, name, _ in left])
    return tuple(there)


def _comment_on(database: Quoted, comment: str | None) -> sql.Composed:
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(comment))


def _left_closed(connection: Connection) -> tuple[str | None, list[Grantee]]:
    """Return the database's own comment, and who is shut out by a restore that did not end."""
    ((comment,),) = connection.execute(_COMMENT).fetchall()
    if comment is None or not comment.startswith(_CLOSED):
        return comment, []
    own, grantees = json.loads(comment.removeprefix(_CLOSED))
    return own, [Grantee(*each) for each in grantees]


def open_to(connection: Connection, grantees: Sequence[Grantee]) -> None:
    """Let those connect again who could before. Raises psycopg.Error."""
    database = Quoted(connection.info.dbname)
    if grantees:
        connection.execute(_comment_on(database, _left_closed(connection)[0]))
    for grantee in grantees:
        grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, grantee.whom())
        passes = sql.SQL(" WITH GRANT OPTION" if grantee.passes_on else "")
        connection.execute(sql.SQL("{}{}").format(grant, passes))

"""A server's roles, out of the SQL of pg_dumpall and into another server.

Never by psql, and only what a role is: its attributes, settings, comment and memberships. Without a
password, which no backup holds, and unless asked without a login.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from backup.postgres.connection import one_line
from backup.postgres.names import Quoted
from backup.postgres.statements import Statement, statements
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from backup.postgres.connection import Connection
    from backup.postgres.statements import Token


# What CREATE ROLE gives by itself. To name SUPERUSER, even in the negative, takes a superuser.
USUAL = frozenset(
    {"NOSUPERUSER", "INHERIT", "NOCREATEROLE", "NOCREATEDB", "NOLOGIN", "NOREPLICATION",
     "NOBYPASSRLS", "CONNECTION LIMIT -1"}
)  # fmt: skip
LOGIN = "LOGIN"
_VALUE = re.compile(" TO | IS ")  # behind it may be a secret, which is no part of a report

log = get_logger(__name__)


@dataclass(frozen=True)
class Role:
    """One role: ``attributes`` that are not :data:`USUAL`, and whole statements about it."""

    name: str
    attributes: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()


@dataclass(frozen=True, order=True)
class Membership:
    """``member`` is in ``group``; ``options`` is what stands behind WITH, empty for nothing."""

    group: str
    member: str
    options: str = ""
    grantor: str = ""


@dataclass(frozen=True)
class Roles:
    """The roles of a server, by name, and who is in whom, in an order in which they can be made."""

    roles: dict[str, Role] = field(default_factory=dict)
    memberships: tuple[Membership, ...] = ()

    def around(self, names: Iterable[str]) -> Roles:
        """Return the roles called ``names`` and those that they are members of, bare if unknown.

        Memberships are those in any of these, be the member one of them or not.
        """
        wanted = dict.fromkeys(names)
        before = -1
        while before != len(wanted):
            before = len(wanted)
            wanted |= dict.fromkeys(
                each.group for each in self.memberships if each.member in wanted
            )
        known = [name for name in self.roles if name in wanted]
        order = [*known, *(name for name in wanted if name not in self.roles)]
        return Roles(
            {name: self.roles.get(name, Role(name)) for name in order if not is_system(name)},
            tuple(each for each in self.memberships if each.group in wanted),
        )


def is_system(name: str) -> bool:
    """Tell whether every server has the role ``name`` by itself."""
    return name.startswith("pg_")


def parse_roles(script: str) -> Roles:
    """Return what the SQL of ``pg_dumpall --globals-only`` says of roles; the rest is left out."""
    roles: dict[str, Role] = {}
    memberships = []
    for statement in statements(script):
        if statement.begins("CREATE", "ROLE"):
            name = statement.tokens[2].name
            roles.setdefault(name, Role(name))
        elif statement.begins("GRANT") and (member := _membership(statement)):
            memberships.append(member)
        elif about := _about(statement):
            role = roles.setdefault(about, Role(about))
            if statement.tokens[3].is_word("WITH"):
                attributes = tuple(_attributes(statement.tokens[4:]))
                roles[about] = Role(about, attributes, role.statements)
            else:
                roles[about] = Role(about, role.attributes, (*role.statements, statement.text))
    return Roles(roles, tuple(memberships))


def _about(statement: Statement) -> str | None:
    """Return the role that the statement sets or comments."""
    if statement.begins("ALTER", "ROLE") and statement.tokens[3].is_word("SET", "WITH"):
        return statement.tokens[2].name
    if statement.begins("COMMENT", "ON", "ROLE"):
        return statement.tokens[3].name
    return None


def _attributes(tokens: Sequence[Token]) -> Iterator[str]:
    """Yield each attribute that is not usual; a password, should there be one, is left out."""
    left = list(tokens)
    while left:
        words = [left.pop(0)]
        if words[0].is_word("CONNECTION", "VALID"):
            words += [left.pop(0), left.pop(0)]
        elif words[0].is_word("PASSWORD"):
            left.pop(0)
            continue
        attribute = " ".join(token.text for token in words)
        if attribute not in USUAL:
            yield attribute


def _membership(statement: Statement) -> Membership | None:
    """Return who becomes a member of whom, None if the statement grants something else."""
    tokens = statement.tokens
    if len(tokens) < 4 or not tokens[2].is_word("TO"):  # noqa: PLR2004 - GRANT a TO b
        return None
    grantor = statement.name_after("GRANTED", "BY")
    end = grantor[0] - 2 if grantor else len(tokens)
    options = " ".join(token.text for token in tokens[5:end])
    return Membership(tokens[1].name, tokens[3].name, options, grantor[1] if grantor else "")


def make_roles(
    connection: Connection, wanted: Roles, *, login: bool = False
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make those of ``wanted`` that the server lacks; return their names, and what was refused.

    A member is made of who was made now: who was there before gains nothing, for he may log in,
    and a group that is made may be a superuser. Unless all ``login``, as on a throwaway server.
    Raises psycopg.Error if a role itself cannot be made.
    """
    found = connection.execute("SELECT rolname, rolsuper FROM pg_roles")
    there: dict[str, bool] = {name: superuser for name, superuser in found}
    made = [role for role in wanted.roles.values() if role.name not in there]
    refused: list[str] = []
    for role in made:
        connection.execute(sql.SQL("CREATE ROLE {}").format(Quoted(role.name)))
    for role in made:
        refused += _dress(connection, role, login=login)
    new = {role.name for role in made}
    for each in wanted.memberships:
        if each.member in new or (login and each.group in new):
            refused += _join(connection, each, wanted.roles.get(each.member, Role(each.member)))
        elif each.group in new and not there.get(each.member):
            refused.append(f"role {each.member} was there, and is no member of {each.group}")
    return tuple(role.name for role in made), tuple(refused)


def _dress(connection: Connection, role: Role, *, login: bool) -> Iterator[str]:
    """Give a role its attributes, settings and comment; yield what the server refuses."""
    alter = sql.SQL("ALTER ROLE {} WITH ").format(Quoted(role.name)).as_bytes(connection)
    given = [each.encode() for each in role.attributes if login or each != LOGIN]
    said = [each.encode("utf-8", "surrogateescape") for each in role.statements]
    for statement in (*(alter + attribute for attribute in given), *said):
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            yield f"role {role.name}: {one_line(error)}"


def _join(connection: Connection, membership: Membership, member: Role) -> Iterator[str]:
    """Make a member; yield why not if the server refuses every way that gives no more than it was.

    Who granted it, and options that came with version 16, do not exist everywhere. Without them a
    member has all that the group has, and can be the group.
    """
    plain = sql.SQL("GRANT {} TO {}").format(Quoted(membership.group), Quoted(membership.member))
    said = membership.options.upper()
    options = sql.SQL(f" WITH {membership.options}" if membership.options else "")
    ways = [plain + options + sql.SQL(" GRANTED BY {}").format(Quoted(membership.grantor))]
    ways = [*(ways if membership.grantor else []), plain + options]
    gains = "SET FALSE" in said or (
        "INHERIT FALSE" in said and "NOINHERIT" not in member.attributes
    )
    if not gains:
        admin = said.startswith(("ADMIN OPTION", "ADMIN TRUE"))
        ways.append(plain + sql.SQL(" WITH ADMIN OPTION" if admin else ""))
    why = ""
    for way in ways:
        try:
            connection.execute(way)
        except psycopg.Error as error:
            why = one_line(error)
        else:
            return
    yield f"role {membership.member} is no member of {membership.group}: {why}"


def differences(wanted: Roles, found: Roles) -> Iterator[str]:
    """Yield one sentence for each thing of ``wanted`` that ``found`` has not, or otherwise."""
    for name, role in wanted.roles.items():
        other = found.roles.get(name)
        if other is None:
            yield f"role {name} is missing"
            continue
        for attribute in sorted({*role.attributes} ^ {*other.attributes}):
            has = "lacks" if attribute in role.attributes else "has"
            yield f"role {name} {has} {attribute}"
        for statement in sorted({*role.statements} - {*other.statements}):
            yield f"role {name}: not restored: {_VALUE.split(statement)[0]}"
    members = {(each.group, each.member, each.options) for each in found.memberships}
    for each in wanted.memberships:
        if (each.group, each.member, each.options) not in members:
            yield f"role {each.member} is not a member of {each.group} as it was"

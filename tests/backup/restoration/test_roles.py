"""Roles out of pg_dumpall's SQL, and into a server."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.restoration.roles import Membership, Role, differences, make_roles, parse_roles

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = r'''
\restrict abc
SET client_encoding = 'UTF8';
CREATE ROLE "Ada ""A""";
ALTER ROLE "Ada ""A""" WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION
 NOBYPASSRLS CONNECTION LIMIT 7 PASSWORD 'SCRAM' VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE "Ada ""A""" IS 'it''s her';
CREATE ROLE readers;
ALTER ROLE readers WITH NOSUPERUSER NOINHERIT NOCREATEROLE CREATEDB NOLOGIN CONNECTION LIMIT -1;
CREATE ROLE admin;
ALTER ROLE admin WITH SUPERUSER INHERIT CREATEROLE LOGIN;
ALTER ROLE "Ada ""A""" SET work_mem TO '8MB';
ALTER ROLE readers IN DATABASE hr SET work_mem TO '9MB';
GRANT pg_read_all_data TO readers GRANTED BY admin;
GRANT readers TO "Ada ""A""" WITH ADMIN OPTION, INHERIT FALSE GRANTED BY admin;
GRANT SET ON PARAMETER log_statement TO readers;
CREATE TABLESPACE fast OWNER admin LOCATION '/fast';
GRANT ALL ON TABLESPACE fast TO readers;
'''


ADA = '"Ada ""A"""'
ADA_COMMENT = f"COMMENT ON ROLE {ADA} IS 'it''s her'"
ADA_SETTING = f"ALTER ROLE {ADA} SET work_mem TO '8MB'"


def test_roles_are_read_with_what_is_not_usual() -> None:
    roles = parse_roles(SCRIPT)
    assert list(roles.roles.values()) == [
        Role(
            'Ada "A"',
            ("LOGIN", "CONNECTION LIMIT 7", "VALID UNTIL '2030-01-01 00:00:00+00'"),
            (
                ADA_COMMENT,
                ADA_SETTING,
            ),
        ),
        Role("readers", ("NOINHERIT", "CREATEDB")),
        Role("admin", ("SUPERUSER", "CREATEROLE", "LOGIN")),
    ]
    assert roles.memberships == (
        Membership("pg_read_all_data", "readers", "", "admin"),
        Membership("readers", 'Ada "A"', "ADMIN OPTION , INHERIT FALSE", "admin"),
    )


def test_those_around_a_role_are_its_groups_and_theirs() -> None:
    roles = parse_roles(SCRIPT).around(["unknown", 'Ada "A"'])
    assert list(roles.roles) == ['Ada "A"', "readers", "unknown"]
    assert roles.roles["unknown"] == Role("unknown")
    assert [each.group for each in roles.memberships] == ["pg_read_all_data", "readers"]


def test_what_is_missing_or_otherwise_is_told() -> None:
    wanted = parse_roles(SCRIPT)
    assert list(differences(wanted, wanted)) == []
    other = parse_roles(
        SCRIPT.replace("NOINHERIT", "INHERIT").replace("8MB", "9MB")
        .replace("WITH ADMIN OPTION, INHERIT FALSE", "").replace("admin", "root")
    )  # fmt: skip
    assert list(differences(wanted, other)) == [
        f'role Ada "A": not restored: {ADA_SETTING.partition(" TO ")[0]}',
        "role readers lacks NOINHERIT",
        "role admin is missing",
        'role Ada "A" is not a member of readers as it was',
    ]


@pytest.fixture
def names(database: str) -> Iterator[tuple[str, str]]:
    """Two names of roles, gone afterwards."""
    made = (f"g_{secrets.token_hex(4)}", f'm\n\\! "{secrets.token_hex(4)}"')
    yield made
    with psycopg.connect(database, autocommit=True) as connection:
        for name in made:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


ABOUT = """
SELECT rolname, rolcanlogin, rolcreatedb, rolinherit, rolconnlimit, rolconfig,
       shobj_description(oid, 'pg_authid'),
       ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid)
FROM pg_roles r WHERE rolname = ANY(%s) ORDER BY rolname
"""


@pytest.mark.parametrize("login", [False, True])
def test_roles_are_made_as_they_were_and_again_without_harm(
    database: str, names: tuple[str, str], login: bool
) -> None:
    group, member = names
    wanted = parse_roles(
        SCRIPT.replace("readers", group)
        .replace('Ada ""A""', member.replace('"', '""'))
        .replace("INHERIT FALSE", "INHERIT TRUE")
    ).around([member])
    with psycopg.connect(database, autocommit=True) as connection:
        assert make_roles(connection, wanted, login=login) == ((member, group), ())
        found = connection.execute(ABOUT, [list(names)]).fetchall()
        assert found == [
            (group, False, True, False, -1, None, None, ["pg_read_all_data"]),
            (member, login, False, True, 7, ["work_mem=8MB"], "it's her", [group]),
        ]
        assert make_roles(connection, wanted, login=login) == ((), ())


def test_nobody_gains_what_he_had_not(database: str, names: tuple[str, str]) -> None:
    """Neither who is there already, nor by an option that an older version does not know."""
    group, member = names
    quoted = '"' + member.replace('"', '""') + '"'
    script = f"CREATE ROLE {group}; ALTER ROLE {group} WITH SUPERUSER; CREATE ROLE {quoted};"
    with psycopg.connect(database, autocommit=True) as connection:
        for options in ("SET FALSE", "ADMIN OPTION, INHERIT FALSE"):
            wanted = parse_roles(f"{script} GRANT {group} TO {quoted} WITH {options}")
            made, (refused,) = make_roles(connection, wanted.around([member]))
            assert {*made} == {group, member}
            assert f"is no member of {group}: " in refused
            assert connection.execute(ABOUT, [[member]]).fetchall()[0][-1] == []
            connection.execute(f"DROP ROLE {group}, {quoted}".encode())
        wanted = parse_roles(f"{script} GRANT {group} TO {quoted} WITH INHERIT TRUE").around(
            [group]
        )
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(member)))
        told = f"role {member} was there, and is no member of {group}"
        assert make_roles(connection, wanted) == ((group,), (told,))
        assert connection.execute(ABOUT, [[member]]).fetchall()[0][-1] == []


def test_a_login_without_the_right_makes_no_superuser_and_says_so(
    database: str, names: tuple[str, str]
) -> None:
    name = names[0]
    wanted = parse_roles(f"CREATE ROLE {name}; ALTER ROLE {name} WITH SUPERUSER CREATEDB")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS role_maker; CREATE ROLE role_maker CREATEROLE")
        connection.execute("SET ROLE role_maker")
        made, refused = make_roles(connection, wanted)
        connection.execute("RESET ROLE")
        connection.execute("DROP ROLE role_maker")
    assert made == (name,)
    assert [each.partition(": ")[0] for each in refused] == [f"role {name}"]
    assert "superuser" in refused[0]

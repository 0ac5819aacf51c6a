"""A server's roles: dumped by a login without rights, and made again in another server."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House, OpenPgpKey


@pytest.fixture
def roles(database: str) -> Iterator[list[str]]:
    """Some roles of the server, gone afterwards: a group, and a member with a quote in its name."""
    made = [f"group_{secrets.token_hex(4)}", f'Ada "{secrets.token_hex(4)}"']
    group, member = map(sql.Identifier, made)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN CREATEDB").format(group))
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hush-of-ada' CONNECTION LIMIT 7").format(member)
        )
        connection.execute(sql.SQL("GRANT {} TO {}").format(group, member))
        connection.execute(sql.SQL("ALTER ROLE {} SET work_mem = '8MB'").format(member))
        yield made
        connection.execute(sql.SQL("DROP ROLE {}, {}").format(group, member))


def test_roles_come_back_with_their_memberships_and_no_passwords(
    house: House, roles: list[str], drill_key: OpenPgpKey, signing_key: OpenPgpKey
) -> None:
    house.secret("signers.json", json.dumps({"postgres_globals": signing_key.public}))
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_in_particular")
        connection.execute("CREATE ROLE nobody_in_particular LOGIN PASSWORD 'x'")
    server = house.source.rpartition("@")[2].split("/")[0]
    house.secret("database_uri", f"postgresql://nobody_in_particular:x@{server}/postgres")
    ended = house.run("run", "postgres_globals", "--json")
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads(ended.stdout)
    assert manifest["kind"] == "globals"
    assert {*roles} <= {*manifest["source"]["roles"]}
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    ended = house.run("drill", "postgres_globals", "--json", unprivileged=True)
    (result,) = json.loads(ended.stdout)["databases"]
    assert (ended.returncode, result["verdict"], result["findings"]) == (0, "equal", [])
    plain = house.settings.scratch / "globals.sql"
    assert house.run("restore", "postgres_globals", "--to", str(plain)).returncode == 0
    text = plain.read_text()
    group, member = (role.replace('"', '""') for role in roles)
    assert f'GRANT {group} TO "{member}"' in text
    assert f"ALTER ROLE \"{member}\" SET work_mem TO '8MB';" in text
    assert "hush" not in text
    assert "PASSWORD" not in text

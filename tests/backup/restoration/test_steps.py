"""The one restore, by the command and by the drill, on databases that are not simple."""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backup.loading.load import FailedObject
from backup.loading.selection import LeftOut
from backup.restoration.steps import Restored
from backup.restoration.target import CONNECTABLE
from backup.restoration.timings import Timings
from tests.backup.clusters import cluster, make_root
from tests.backup.conftest import SERVER, House, contents, database_entry
from tests.backup.postgres.zoo import make_zoo
from tests.conftest import started_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.backup.conftest import OpenPgpKey
    from tests.conftest import PostgresServer

# What a database is besides its objects.
DATABASE = """
SELECT datdba::regrole::text, datconnlimit, datistemplate, datlocprovider, daticulocale,
       shobj_description(oid, 'pg_database'),
       ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1),
       ARRAY(SELECT coalesce(setrole::regrole::text, '') || ':' || unnest(setconfig)
             FROM pg_db_role_setting WHERE setdatabase = d.oid ORDER BY 1)
FROM pg_database d WHERE datname = current_database()
"""
ROLE = """
SELECT rolcanlogin, rolcreatedb, rolconnlimit, rolconfig::text,
       ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid)
FROM pg_roles r WHERE rolname = %s
"""


@pytest.fixture(scope="module")
def bare() -> Iterator[PostgresServer]:
    """A server that has none of a zoo's roles and tablespaces, and another superuser."""
    with started_server(superuser="chief") as server:
        yield server


@pytest.fixture
def chiefs() -> Iterator[PostgresServer]:
    """A server whose first superuser is another, and on which nothing was restored."""
    with started_server(superuser="chief") as server:
        yield server


@dataclasses.dataclass(frozen=True)
class Zoo:
    """A database of the source's server that is in no way simple, and its roles."""

    uri: str
    owner: str
    roles: tuple[str, ...]


def execute(uri: str, *statements: str) -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def one(uri: str, query: str, *parameters: object) -> Any:
    with psycopg.connect(uri, autocommit=True) as connection:
        return connection.execute(query.encode(), parameters or None).fetchone()


@pytest.fixture
def zoo(house: House) -> Iterator[Zoo]:
    """A zoo in a database of its own, by ICU, with settings, rights, and triggers on all DDL."""
    token = secrets.token_hex(4)
    name, owner = f'Zoo "{token}"', f"owner {token}"
    uri = house.server.uri(name.replace('"', "%22").replace(" ", "%20"))
    quoted = '"' + name.replace('"', '""') + '"'
    execute(
        house.server.uri(),
        f'CREATE ROLE "{owner}" CREATEDB CONNECTION LIMIT 3',
        f'CREATE ROLE "group {token}"',
        f'GRANT "group {token}" TO "{owner}"',
        f'CREATE DATABASE {quoted} OWNER "{owner}" TEMPLATE template0 LOCALE_PROVIDER icu'
        " ICU_LOCALE 'en-GH' CONNECTION LIMIT 9",
        f"COMMENT ON DATABASE {quoted} IS 'of ɛ; ''animals'''",
        f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {quoted} TO "group {token}" WITH GRANT OPTION',
        f"ALTER DATABASE {quoted} SET zoo.most TO '5'",
        f'ALTER ROLE "{owner}" IN DATABASE {quoted} SET search_path TO "a b", public',
        f"ALTER DATABASE {quoted} SET default_transaction_read_only TO on",
    )
    uri_to_write = f"{uri}?options=-c%20default_transaction_read_only%3Doff"
    keepers = make_zoo(uri_to_write)
    execute(
        uri_to_write,
        "CREATE TABLE few (n int CHECK (n < current_setting('zoo.most')::int))",
        "INSERT INTO few VALUES (1), (4)",
        "CREATE INDEX half ON ONLY marks (kind)",
        "CREATE COLLATION by_number (provider = icu, locale = 'en-u-kn')",
        "CREATE TABLE numbered (name text COLLATE by_number PRIMARY KEY)",
        "INSERT INTO numbered VALUES ('a10'), ('a9')",
        "CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no DDL here'; END $$",
        "CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION forbid()",
    )
    house.secret("database_uri", uri)
    house.settings.registry.write_text(
        SERVER + database_entry("hr", dbname=name).replace("\\u", "\\u")
    )
    yield Zoo(uri, owner, (owner, f"group {token}", *keepers))
    execute(house.server.uri(), f"DROP DATABASE {quoted} WITH (FORCE)")
    for role in (owner, f"group {token}", *keepers):
        execute(house.server.uri(), f'DROP ROLE "{role}"')


def back_up(house: House, key: OpenPgpKey, *, globals_too: bool = False) -> None:
    """Back up ``hr``, and its server's globals, and hold the drill's key and rights."""
    if globals_too:
        uri = house.settings.secret("database_uri")
        house.secret("database_uri", house.server.uri())
        ended = house.run("run", "postgres_globals")
        assert ended.returncode == 0, ended.stderr
        house.secret("database_uri", uri)
    ended = house.run("run", "hr")
    assert ended.returncode == 0, ended.stderr
    house.read()
    house.secret("drill_key.asc", key.private)


def test_a_zoo_is_drilled_equal(house: House, zoo: Zoo, drill_key: OpenPgpKey) -> None:
    back_up(house, drill_key, globals_too=True)
    ended = house.run("drill", "hr", "--json", unprivileged=True)
    (result,) = json.loads(ended.stdout)["databases"]
    assert (result["findings"], result["verdict"]) == ([], "equal"), ended.stderr
    assert f"on {zoo.owner}" not in ended.stderr


def test_a_server_that_has_nothing_of_the_source_gets_all_of_it(
    house: House, zoo: Zoo, drill_key: OpenPgpKey, bare: PostgresServer
) -> None:
    space = f"fast_{secrets.token_hex(4)}"
    writing = f"{zoo.uri}?options=-c%20default_transaction_read_only%3Doff"
    execute(
        writing,
        "SET allow_in_place_tablespaces = on",
        f"CREATE TABLESPACE {space} LOCATION ''",
        "SET session_replication_role = replica",
        f"ALTER TABLE few SET TABLESPACE {space}",
    )
    back_up(house, drill_key, globals_too=True)
    target = bare.uri(f"zoo_{secrets.token_hex(4)}")
    arguments = ("restore", "hr", "--into-env", "TARGET", "--create", "--json")
    looked = house.run(*arguments, "--dry-run", TARGET=target)
    found = json.loads(looked.stdout)["findings"]
    blocking = {each["about"]: each for each in found if each["state"] == "blocks"}
    assert (looked.returncode, {*blocking}) == (1, {"roles", "tablespaces"})
    assert zoo.owner in blocking["roles"]["said"]
    assert "--create-roles" in blocking["roles"]["hint"]
    assert space in blocking["tablespaces"]["said"]
    refused = house.run(*arguments, TARGET=target)
    assert refused.returncode == 1
    assert "has no role" in refused.stderr
    assert "has no tablespace" in refused.stderr
    name = target.rpartition("/")[2]
    assert one(bare.uri(), "SELECT FROM pg_database WHERE datname = %s", name) is None

    rest = ("--create-roles", "--no-tablespaces")
    looked = house.run(*arguments, *rest, "--dry-run", TARGET=target)
    assert looked.returncode == 0, looked.stdout
    ended = house.run(*arguments, *rest, "--check", TARGET=target)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    restored = json.loads(ended.stdout)
    assert (restored["failed"], restored["differences"]) == ([], [])
    assert {*restored["timings"]} == {*vars(Timings())}
    assert all(seconds > 0 for seconds in restored["timings"].values())
    assert contents(target) == contents(zoo.uri)
    assert one(target, DATABASE) == one(zoo.uri, DATABASE)
    assert one(target, ROLE, zoo.owner) == one(house.server.uri(), ROLE, zoo.owner)
    assert one(target, "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'") == (0,)
    assert one(target, "SELECT reltuples FROM pg_class WHERE relname = 'few'") == (2,)
    execute(writing, "SET session_replication_role = replica", "DROP TABLE few")
    execute(writing, f"DROP TABLESPACE {space}")


def test_roles_are_bare_where_no_globals_can_be_had(
    house: House, zoo: Zoo, drill_key: OpenPgpKey, bare: PostgresServer
) -> None:
    back_up(house, drill_key)
    target = bare.uri(f"zoo_{secrets.token_hex(4)}")
    ended = house.run(
        "restore", "hr", "--into-env", "TARGET", "--create", "--create-roles", "--json",
        TARGET=target,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "roles are bare: no backup of the globals" in json.loads(ended.stdout)["notes"][0]
    assert one(target, ROLE, zoo.owner) == (False, False, -1, None, [])
    owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = current_database()"
    assert one(target, owner) == (f'"{zoo.owner}"',)


BROKEN = (
    "CREATE TABLE families (id int PRIMARY KEY)",
    "CREATE TABLE children (id int PRIMARY KEY, family int REFERENCES families)",
    "SET session_replication_role = replica",
    "INSERT INTO children VALUES (1, 4711)",
)


def test_an_object_that_does_not_load_is_told_and_the_rest_is_there(
    house: House, drill_key: OpenPgpKey
) -> None:
    execute(house.source, *BROKEN)
    back_up(house, drill_key)
    target = house.server.uri(f"back_{secrets.token_hex(4)}")
    arguments = ("restore", "hr", "--into-env", "TARGET", "--create", "--json")
    stopped = house.run(*arguments, "--jobs", "2", TARGET=target)
    assert stopped.returncode == 1
    assert "children_family_fkey" in stopped.stderr
    assert "4711" not in stopped.stdout + stopped.stderr
    assert one(target, CONNECTABLE) is None, "what is not whole stays closed"
    target = house.server.uri(f"back_{secrets.token_hex(4)}")
    ended = house.run(*arguments, "--check", TARGET=target)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    restored = json.loads(ended.stdout)
    (failed,) = restored["failed"]
    assert (failed["kind"], failed["schema_name"]) == ("FK CONSTRAINT", "public")
    assert "violates foreign key constraint" in failed["error"]
    assert "4711" not in ended.stdout + ended.stderr
    assert contents(target) == contents(house.source)
    assert one(target, CONNECTABLE) is not None, "whole but for that, it is open"
    shown = house.run(
        *arguments[:-1], "--keep-going", TARGET=house.server.uri(f"back_{secrets.token_hex(4)}")
    )
    assert shown.returncode == 3
    assert "but for 1 objects" in shown.stdout
    assert "rows" in shown.stdout


def test_settings_come_without_create_too_and_a_failed_transaction_leaves_it_open(
    house: House, drill_key: OpenPgpKey
) -> None:
    execute(house.source, *BROKEN)
    name = house.source.rpartition("/")[2]
    execute(
        house.source,
        f"ALTER DATABASE {name} SET work_mem TO '7MB'",
        f"COMMENT ON DATABASE {name} IS 'mine'",
    )
    back_up(house, drill_key)
    target = house.server.create_database()
    arguments = ("restore", "hr", "--into-env", "TARGET", "--jobs", "1")
    assert house.run(*arguments, TARGET=target).returncode == 1
    assert contents(target) == {}
    assert one(target, CONNECTABLE) is not None
    ended = house.run(*arguments, "--keep-going", TARGET=target)
    assert ended.returncode == 3, ended.stderr
    assert one(target, "SELECT current_setting('work_mem')") == ("7MB",)
    assert one(
        target,
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
        " WHERE datname = current_database()",
    ) == ("mine",)


def test_a_source_whose_first_superuser_has_another_name_is_drilled(
    house: House, drill_key: OpenPgpKey, chiefs: PostgresServer
) -> None:
    token = secrets.token_hex(4)
    execute(
        chiefs.uri(),
        f"CREATE DATABASE other_{token}",
        "CREATE ROLE postgres NOINHERIT",
        f"CREATE ROLE member_{token} IN ROLE postgres, pg_monitor ADMIN chief",
    )
    uri = chiefs.uri(f"other_{token}")
    execute(uri, "CREATE TABLE t AS SELECT 1 AS n", f"GRANT SELECT ON t TO member_{token}")
    elsewhere = dataclasses.replace(house, server=chiefs, source=uri)
    house.secret("database_uri", uri)
    house.settings.registry.write_text(SERVER + database_entry("hr", dbname=f"other_{token}"))
    back_up(elsewhere, drill_key, globals_too=True)
    ended = house.run("drill", "--json", unprivileged=True)
    results = json.loads(ended.stdout)["databases"]
    assert [(each["database"], each["verdict"], each["findings"]) for each in results] == [
        ("postgres_globals", "equal", []), ("hr", "equal", []),
    ], ended.stderr  # fmt: skip


@pytest.mark.parametrize(("source", "target"), [(15, 18), (17, 15)])
def test_another_version_takes_it_with_the_clients_of_the_dump(
    house: House, drill_key: OpenPgpKey, tmp_path: Path, source: int, target: int
) -> None:
    root = make_root(tmp_path / "root", 15, 16, 17, 18)
    zoo, back = (f"{name}_{secrets.token_hex(4)}" for name in ("zoo", "back"))
    with cluster(max(source, target)) as newer:
        then, now = (house.server, newer) if source == 15 else (newer, house.server)
        uri = then.uri(zoo)
        execute(then.uri(), f"CREATE DATABASE {zoo}", f"ALTER DATABASE {zoo} SET work_mem TO '7MB'")
        execute(
            uri,
            "CREATE TABLE t AS SELECT n, repeat('x', n) AS text FROM generate_series(1, 99) n",
            "CREATE INDEX ON t (text); CREATE VIEW v AS SELECT n FROM t",
        )
        house.secret("database_uri", uri)
        house.settings.registry.write_text(SERVER + database_entry("hr", dbname=zoo))
        elsewhere = dataclasses.replace(
            house, source=uri, settings=house.settings.model_copy(update={"pg_root": root})
        )
        back_up(elsewhere, drill_key)
        arguments = ("restore", "hr", "--into-env", "TARGET", "--create", "--check", "--json")
        ended = elsewhere.run(*arguments, TARGET=now.uri(back))
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert json.loads(ended.stdout)["failed"] == []
        assert contents(now.uri(back)) == contents(uri)
        assert one(now.uri(back), "SELECT current_setting('work_mem')") == ("7MB",)
        looked = elsewhere.run(*arguments, "--dry-run", TARGET=now.uri(f"{back}_new"))
        found = {each["about"]: each["said"] for each in json.loads(looked.stdout)["findings"]}
        assert found["client"].startswith(f"pg_restore {source} ")
        assert found["server"].startswith(f"version {target}, the source was {source}")


@pytest.mark.parametrize("option", ["--into-env", "--into-file"])
def test_a_uri_among_the_words_is_refused_and_not_repeated(house: House, option: str) -> None:
    uri = "postgresql://me:hush@secret.example.org/payroll"
    ended = house.run("restore", "hr", option, uri)
    assert ended.returncode == 2
    assert "a URI was given" in ended.stderr
    for word in ("hush", "secret.example", "payroll"):
        assert word not in ended.stdout + ended.stderr


@pytest.mark.programs
def test_a_database_whose_sessions_are_kept_out_is_restored_and_compared(
    house: House, drill_key: OpenPgpKey, tmp_path: Path
) -> None:
    """By a library that is missing, a trigger at login, and what role and database have set.

    On a server that has no database postgres.
    """
    root = str(make_root(tmp_path / "programs", 15, 17))
    rest = "?options=-c%20session_preload_libraries%3D%20-c%20default_transaction_read_only%3Doff"
    with cluster(17) as server:
        execute(
            server.uri(), "CREATE DATABASE source", "CREATE ROLE dumper LOGIN SUPERUSER",
            "ALTER DATABASE source SET session_preload_libraries = nowhere",
            "ALTER DATABASE source SET harmattan.secret = 'of an application'",
            "ALTER DATABASE source SET idle_session_timeout = 500",
            "CREATE ROLE restorer LOGIN SUPERUSER",
            "ALTER ROLE restorer SET default_transaction_read_only = on",
        )  # fmt: skip
        execute(
            server.uri("source") + rest,
            "CREATE TABLE one AS SELECT 1 AS x",
            "CREATE FUNCTION keep_out() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF session_user <> 'dumper' THEN RAISE EXCEPTION 'closed'; END IF; END $$",
            "CREATE EVENT TRIGGER keep_out ON login EXECUTE FUNCTION keep_out()",
        )
        execute(server.uri("template1"), "DROP DATABASE postgres")
        house.secret("database_uri", server.uri("source", "dumper") + rest)
        house.settings.registry.write_text(SERVER + database_entry("hr", dbname="source"))
        assert house.run("run", "hr", BACKUP_PG_ROOT=root).returncode == 0
        house.read()
        house.secret("drill_key.asc", drill_key.private)
        ended = house.run(
            "restore", "hr", "--into-env", "TARGET", "--create", "--check", "--json",
            TARGET=server.uri("target", "restorer"), BACKUP_PG_ROOT=root,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        (note,) = json.loads(ended.stdout)["notes"]
        assert "sessions cannot begin as they are set up" in note
        assert 'could not access file "nowhere"' in note
        assert "of an application" not in ended.stdout + ended.stderr


def test_a_session_that_is_ended_meanwhile_leaves_nothing_closed(
    house: House, drill_key: OpenPgpKey
) -> None:
    """It holds the database for hours. Here a CHECK ends it, as a network would."""
    execute(
        house.source,
        "CREATE FUNCTION fine() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM"
        " pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = 'harmattan-restore'; RETURN true; END $$",
        "CREATE TABLE checked (x int CHECK (fine())); INSERT INTO checked VALUES (1)",
        "CREATE FUNCTION planted() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    )
    back_up(house, drill_key)
    target = house.server.create_database()
    words = ("--check", "--owners", "skip")
    ended = house.run("restore", "hr", "--into-env", "TARGET", *words, TARGET=target)
    assert (ended.returncode, "public.planted()" in ended.stdout) == (0, True), ended.stderr
    may = "SELECT has_function_privilege('pg_monitor', 'planted()', 'EXECUTE')"
    assert one(target, may) == (False,)
    assert one(target, CONNECTABLE) == one(house.source, CONNECTABLE)
    assert one(target, DATABASE)[5] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--check", "--table", "public.people"), "part of a backup cannot be compared"),
        (("--dry-run", "--table", "public.nobody"), "holds no table public.nobody"),
        (("--into-schema", "other"), "only tables that are named go into another schema"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_look(
    backed_up: House, words: tuple[str, ...], told: str
) -> None:
    target = backed_up.server.uri("never_made")
    ended = backed_up.run("restore", "hr", "--into-env", "TARGET", *words, TARGET=target)
    assert (ended.returncode, told in ended.stderr) == (2, True), ended.stderr


def test_only_what_is_missing_explains_a_difference() -> None:
    """An object called x is not each word with an x in it."""
    differences = ("public.taxes has 3 rows, 4 expected", "index public.x is missing")
    x = FailedObject("INDEX", "public", "x", "ERROR: …")
    assert Restored(failed=(x,), differences=differences).unexplained == differences[:1]
    policy = LeftOut("POLICY", "public", "t\nof his", "it is for the role he")
    told = ("policy public.t of his is missing",)
    assert Restored(left_out=(policy,), differences=told).unexplained == ()
    extension = FailedObject("EXTENSION", "", "hstore", "ERROR: …")
    told = ("extension hstore is missing", "comment EXTENSION hstore is missing")
    more = ("public.hstore has 1 rows, 2 expected",)
    assert Restored(failed=(extension,), differences=(*told, *more)).unexplained == more

from __future__ import annotations

import re
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backup.loading.archive import read_archive
from backup.loading.load import FailedObject, Loaded, load, named_tables
from backup.manifest import Manifest, SchemaObject, StoredDump
from backup.postgres.connection import PostgresUri
from backup.restoration.target import Wanted
from frame.failure import Failure, WrongUse
from tests.backup.clusters import cluster, programs_of
from tests.backup.conftest import contents
from tests.backup.examples import NOW
from tests.backup.postgres.zoo import CAGE, dump, make_zoo, schema_of
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import PostgresServer

KEEP_GOING = Wanted(2, keep_going=True)
# What comes back in part. Each was a good backup.
ODD = """
CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int, p int REFERENCES parent);
INSERT INTO parent VALUES (1);
SET session_replication_role = replica; INSERT INTO child VALUES (1, 4711);
SET session_replication_role = origin;
CREATE TABLE secret (x int);
CREATE FUNCTION least_of() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM secret';
CREATE FUNCTION fixed() RETURNS bigint IMMUTABLE LANGUAGE sql AS 'SELECT count(*) FROM secret';
CREATE VIEW seen AS SELECT least_of();
CREATE MATERIALIZED VIEW kept AS SELECT least_of();
CREATE TABLE indexed (x int); INSERT INTO indexed VALUES (1);
CREATE INDEX on_function ON indexed ((fixed() + x));
CREATE FUNCTION below(x int) RETURNS bool LANGUAGE sql
  AS $$ SELECT x < current_setting('harmattan.most')::int $$;
SET harmattan.most = 10;
CREATE TABLE limited (x int CHECK (below(x))); INSERT INTO limited VALUES (3);
CREATE FUNCTION fail(x int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
  IF current_setting('harmattan.calm', true) IS NULL THEN
    RAISE EXCEPTION 'salary of % is %', 'Ann', x; END IF;
  RETURN x; END $$;
SET harmattan.calm = 1;
CREATE TABLE generated (x int, y int GENERATED ALWAYS AS (fail(x)) STORED);
INSERT INTO generated VALUES (4711);
CREATE VIEW on_generated AS SELECT y FROM generated;
"""


@pytest.fixture
def target(postgres: PostgresServer) -> str:
    return postgres.create_database()


def fill(uri: str, statements: str) -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(statements.encode())


def brought(plain: Path, target: str, wanted: Wanted) -> Loaded:
    return load(PG_BIN, plain, PostgresUri(target, "the test"), wanted)


def errors(loaded: Loaded) -> dict[tuple[str, str], str]:
    return {(each.kind, each.name): each.error for each in loaded.failed}


ODD_ERRORS = {
    ("FK CONSTRAINT", "child child_p_fkey"): (
        'ERROR: insert or update on table "child" violates foreign key constraint "child_p_fkey"'
    ),
    ("INDEX", "on_function"): 'ERROR: relation "secret" does not exist',
    ("MATERIALIZED VIEW DATA", "kept"): 'ERROR: relation "secret" does not exist',
    ("TABLE DATA", "limited"): 'ERROR: unrecognized configuration parameter "harmattan.most"',
    ("TABLE DATA", "generated"): "ERROR: an error of a function's own (…)",
}


@pytest.mark.parametrize("jobs", [1, 4])
def test_what_does_not_load_is_listed_and_the_rest_comes(
    database: str, target: str, tmp_path: Path, jobs: int
) -> None:
    fill(database, ODD)
    loaded = brought(dump(database, tmp_path / "dump"), target, Wanted(jobs, keep_going=True))
    assert errors(loaded) == ODD_ERRORS
    assert "4711" not in repr(loaded.failed)
    found, expected = contents(target), contents(database)
    assert found == expected | {"public.limited": [], "public.generated": []}
    with psycopg.connect(target) as connection:
        assert connection.execute("SELECT * FROM seen, on_generated").fetchall() == []
    assert loaded.schema_seconds > 0
    assert loaded.data_seconds > 0
    assert loaded.index_seconds > 0
    assert len(loaded.slowest) == 5


@pytest.mark.parametrize("jobs", [1, 4])
def test_the_first_that_does_not_load_ends_it_with_the_servers_own_line(
    database: str, target: str, tmp_path: Path, jobs: int
) -> None:
    fill(database, ODD.partition("CREATE TABLE secret")[0])
    plain = dump(database, tmp_path / "dump")
    with pytest.raises(Failure) as caught:
        brought(plain, target, Wanted(jobs))
    assert caught.value.message == (
        "FK CONSTRAINT public.child child_p_fkey was not loaded: ERROR: insert or update on table "
        '"child" violates foreign key constraint "child_p_fkey"'
    )
    assert "--keep-going" in caught.value.hint
    assert ("Nothing was changed" in caught.value.hint) == (jobs == 1) == (contents(target) == {})


def test_a_setting_of_the_target_is_seen_while_it_is_loaded(
    database: str, target: str, tmp_path: Path
) -> None:
    fill(database, ODD)
    name = sql.Identifier(target.rpartition("/")[2])
    with psycopg.connect(target, autocommit=True) as connection:
        for setting in ("most", "calm"):
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = 10").format(
                    name, sql.Identifier(f"harmattan.{setting}")
                )
            )
    loaded = brought(dump(database, tmp_path / "dump"), target, KEEP_GOING)
    assert not [each for each in loaded.failed if each.kind == "TABLE DATA"]
    assert contents(target) == contents(database)


def test_an_extension_that_the_target_lacks_is_listed_with_what_needs_it(
    database: str, target: str, tmp_path: Path
) -> None:
    fill(
        database,
        "CREATE EXTENSION hstore; CREATE TABLE pairs (p hstore); CREATE TABLE fine AS SELECT 1;"
        "INSERT INTO pairs VALUES ('a=>b'); CREATE VIEW keys AS SELECT akeys(p) FROM pairs;",
    )
    plain = elsewhere(dump(database, tmp_path / "dump"), "hstore", "lore")
    loaded = brought(plain, target, KEEP_GOING)
    causes = {(each.kind, each.name): each.because for each in loaded.failed}
    assert causes == {
        ("EXTENSION", "hstore"): "",
        ("COMMENT", "EXTENSION hstore"): "EXTENSION hstore",
        ("TABLE", "pairs"): "EXTENSION hstore",
        ("TABLE DATA", "pairs"): "TABLE public.pairs",
        ("VIEW", "keys"): "TABLE public.pairs",
    }
    first = next(each for each in loaded.failed if each.kind == "EXTENSION")
    assert first == FailedObject(
        "EXTENSION", "", "hstore", 'ERROR: extension "lore" is not available'
    )
    assert contents(target) == {"public.fine": ["(1)"]}


def elsewhere(plain: Path, extension: str, unknown: str) -> Path:
    """Write the dump as one of a server with an extension that this one does not know."""
    archive = read_archive(plain)
    entries = [
        replace(entry, definition=entry.sql.replace(extension, unknown))
        if entry.kind == "EXTENSION"
        else entry
        for entry in archive.entries
    ]
    changed = plain.with_name("changed")
    rows = plain.read_bytes()[archive.size :]
    changed.write_bytes(archive.with_entries(entries).head() + rows)
    return changed


def test_what_needs_a_language_that_is_missing_is_listed_and_all_else_comes(
    database: str, target: str, tmp_path: Path
) -> None:
    """Beside it what is restored last, and what is in no schema."""
    fill(
        database,
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';"
        "CREATE VIEW on_f AS SELECT f(); CREATE TABLE t AS SELECT 1 AS x;"
        "CREATE MATERIALIZED VIEW first AS SELECT x FROM t;"
        "CREATE MATERIALIZED VIEW second AS SELECT x FROM first;"
        "CREATE PUBLICATION p FOR TABLE t; CREATE FOREIGN DATA WRAPPER w;"
        "CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE far (x int) SERVER s;"
        "SELECT lo_from_bytea(77, 'large'); ALTER TABLE t ADD PRIMARY KEY (x);"
        "CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN IF tg_tag <> 'CREATE EVENT TRIGGER' THEN RAISE 'no'; END IF; END $$;"
        "CREATE EVENT TRIGGER no ON ddl_command_start EXECUTE FUNCTION no()",
    )
    plain = dump(database, tmp_path / "dump")
    for jobs in (1, 2):
        assert brought(plain, fresh(target), Wanted(jobs)).failed == ()
    fill(target, "DROP EXTENSION plpgsql")
    loaded = brought(plain, target, KEEP_GOING)
    assert {(each.kind, each.name, each.because) for each in loaded.failed} == {
        ("FUNCTION", "f()", ""), ("FUNCTION", "no()", ""), ("VIEW", "on_f", "FUNCTION public.f()"),
        ("EVENT TRIGGER", "no", "FUNCTION public.no()"),
    }  # fmt: skip
    with psycopg.connect(target) as connection:
        found = connection.execute("SELECT (SELECT x FROM second), lo_get(77), count(*)"
                                   " FROM pg_publication_tables").fetchone()  # fmt: skip
        assert found == (1, b"large", 1)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_names_of_another_encoding_are_loaded_and_told(
    postgres: PostgresServer, tmp_path: Path, encoding: str
) -> None:
    made, target = (f"{name}_{secrets.token_hex(4)}" for name in ("made", "target"))
    for name in (made, target):
        fill(
            postgres.uri(),
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING {encoding} LOCALE 'C'",
        )
    with psycopg.connect(postgres.uri(made), autocommit=True, client_encoding=encoding) as each:
        each.execute(b'CREATE SCHEMA "s\xe9"; CREATE TABLE "s\xe9"."t\xe9" AS SELECT 1 AS x')
        each.execute(b'ALTER TABLE "s\xe9"."t\xe9" ADD CHECK (x < current_setting($$a.b$$)::int)'
                     b" NOT VALID")  # fmt: skip
    plain = dump(postgres.uri(made), tmp_path / "dump")
    table = next(each for each in read_archive(plain).entries if each.kind == "TABLE")
    wanted = Wanted(1, tables=(f"{table.schema}.{table.name}",), keep_going=True)
    loaded = brought(plain, postgres.uri(target), wanted)
    assert loaded.failed == ()
    shown = {"SQL_ASCII": r"s\xe9.t\xe9", "LATIN1": "sé.té"}[encoding]
    assert f"TABLE DATA {shown}" in {each.described for each in loaded.slowest}
    assert brought(plain, postgres.uri(target), replace(wanted, schema="né")).failed == ()


@pytest.fixture
def roles(postgres: PostgresServer) -> Iterator[str]:
    """A role's name, which does not outlive the test."""
    role = f"role_{secrets.token_hex(4)}"
    yield role
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        connection.execute(f"DROP ROLE IF EXISTS {role}".encode())


def test_without_owners_no_role_is_needed(
    database: str, target: str, tmp_path: Path, roles: str
) -> None:
    fill(
        database,
        f"CREATE ROLE {roles}; CREATE TABLE t (x int); ALTER TABLE t OWNER TO {roles};"
        f"ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY his ON t TO {roles} USING (true);"
        f"COMMENT ON POLICY his ON t IS 'his'; CREATE POLICY all_of_us ON t USING (x > 1);"
        f"CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        f"CREATE USER MAPPING FOR {roles} SERVER s OPTIONS (password 'top secret');"
        f"CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (password 'of all');"
        f"GRANT SELECT ON t TO {roles}; ALTER DEFAULT PRIVILEGES FOR ROLE {roles}"
        f" GRANT SELECT ON TABLES TO {roles}; SELECT lo_create(77);"
        f"ALTER LARGE OBJECT 77 OWNER TO {roles}; INSERT INTO t VALUES (1);",
    )
    plain = dump(database, tmp_path / "dump")
    fill(database, f"DROP OWNED BY {roles}; DROP ROLE {roles}")
    loaded = brought(plain, target, Wanted(1, owners="skip"))
    assert {(each.kind, each.name) for each in loaded.left_out} == {
        ("POLICY", "t his"), ("USER MAPPING", f"USER MAPPING {roles} SERVER s"),
    }  # fmt: skip
    assert contents(target) == {"public.t": ["(1)"]}
    with psycopg.connect(target) as connection:
        looks = "SELECT relrowsecurity FROM pg_class WHERE relname = 't'"
        assert connection.execute(looks).fetchall() == [(True,)]
        assert connection.execute("SELECT polname FROM pg_policy").fetchall() == [("all_of_us",)]
    assert "secret" not in repr(loaded)
    with pytest.raises(Failure, match=f'USER MAPPING .* was not loaded: ERROR: role "{roles}" d'):
        brought(plain, fresh(target), Wanted(1))


def fresh(uri: str) -> str:
    """Make a database of another name on the same server, and return its URI."""
    name = f"test_{secrets.token_hex(4)}"
    fill(uri, f"CREATE DATABASE {name} TEMPLATE template0")
    return f"{uri.rpartition('/')[0]}/{name}"


def test_a_tablespace_that_is_not_there_can_be_done_without(
    database: str, postgres: PostgresServer, tmp_path: Path
) -> None:
    space = f"fast_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(f"CREATE TABLESPACE {space} LOCATION ''".encode())
        connection.execute(f"CREATE TABLE t (x int PRIMARY KEY) TABLESPACE {space}".encode())
        connection.execute(f"CREATE INDEX i ON t (x) TABLESPACE {space}".encode())
        connection.execute("INSERT INTO t VALUES (1)")
        plain = dump(database, tmp_path / "dump")
        connection.execute("DROP TABLE t")
        connection.execute(f"DROP TABLESPACE {space}".encode())
    told = f'ERROR: invalid value for parameter "default_tablespace": "{space}"'
    with pytest.raises(Failure, match=told):
        brought(plain, postgres.create_database(), Wanted(1))
    target = postgres.create_database()
    assert brought(plain, target, Wanted(2, tablespaces="skip")).failed == ()
    assert contents(target) == {"public.t": ["(1)"]}
    target = postgres.create_database()
    loaded = brought(plain, target, KEEP_GOING)
    assert contents(target) == {"public.t": ["(1)"]}, "only its place is another"
    assert {each.error for each in loaded.failed} == {told}


def test_excluded_tables_stay_out_with_what_needs_them(
    database: str, target: str, tmp_path: Path
) -> None:
    make_zoo(database)
    plain = dump(database, tmp_path / "dump")
    loaded = brought(plain, target, Wanted(2, excluded=("public.species", "public.marks_1")))
    assert [each.kind for each in loaded.left_out] == [
        "MATERIALIZED VIEW", "FK CONSTRAINT", "POLICY", "MATERIALIZED VIEW DATA",
    ]  # fmt: skip
    expected = contents(database)
    del expected["public.species"], expected["public.marks_1"]
    assert contents(target) == expected
    with pytest.raises(WrongUse, match=r"holds no table public\.lions"):
        brought(plain, target, Wanted(2, excluded=("public.lions",)))


TABLES = (f"public.{CAGE}", "public.marks", "public.appeals")
STAYS = "it points to public.species, which stays where it is"


def tables_of(uri: str, schema: str, programs: Path = PG_BIN) -> list[str]:
    """Return the statements that make TABLES, with the schema called as it was in the zoo.

    Without the foreign key to a table that is none of them.
    """
    patterns = [f'--table={schema}."Cage*"', *(f"--table={schema}.{each}" for each in
                ("marks*", "appeals", "cage_statistics"))]  # fmt: skip
    return [
        each.replace(f"{schema}.", "public.")
        for each in schema_of(uri, *patterns, programs=programs)
        if "_species_fkey" not in each
    ]


@pytest.mark.parametrize("wanted", [Wanted(1), KEEP_GOING])
def test_tables_come_back_whole_under_another_schema_beside_themselves(
    database: str, tmp_path: Path, wanted: Wanted
) -> None:
    make_zoo(database)
    before = schema_of(database, "--schema=public")
    plain = dump(database, tmp_path / "dump")
    loaded = brought(plain, database, replace(wanted, tables=TABLES, schema="yesterday"))
    assert (loaded.failed, [each.why for each in loaded.left_out]) == ((), [STAYS])
    assert tables_of(database, "yesterday") == tables_of(database, "public")
    assert schema_of(database, "--schema=public") == before
    found = contents(database)
    for table in ("marks_1", "marks_2_x", CAGE, "appeals"):
        assert found[f"yesterday.{table}"] == found[f"public.{table}"]
    assert len(found[f"yesterday.{CAGE}"]) == 2
    with psycopg.connect(database) as connection:
        values = "SELECT schemaname, sequencename, last_value FROM pg_sequences"
        rows: list[Any] = connection.execute(values).fetchall()
        positions = {(schema, name): value for schema, name, value in rows}
        for name in (f"{CAGE}_id_seq", f"{CAGE}_big_seq", "marks_id_seq"):
            assert positions["yesterday", name] == positions["public", name]
        invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert connection.execute(invalid).fetchone() == (0,)


@pytest.mark.programs
def test_tables_of_the_newest_version_come_back_under_another_schema(tmp_path: Path) -> None:
    """With constraints of their own for NOT NULL, and the planner's statistics in the dump."""
    programs = programs_of(18)
    with cluster(18) as server:
        uri = server.uri()
        make_zoo(uri)
        plain = dump(uri, tmp_path / "dump", "--statistics", programs=programs)
        wanted = Wanted(1, tables=TABLES, schema="yesterday")
        loaded = load(programs, plain, PostgresUri(uri, "the test"), wanted)
        assert (loaded.failed, [each.why for each in loaded.left_out]) == ((), [STAYS])
        assert tables_of(uri, "yesterday", programs) == tables_of(uri, "public", programs)
        found = contents(uri)
        assert found[f"yesterday.{CAGE}"] == found[f"public.{CAGE}"]


def test_a_dump_by_a_newer_client_loads_into_an_older_server(
    database: str, target: str, tmp_path: Path
) -> None:
    make_zoo(database)
    programs = programs_of(17)
    plain = dump(database, tmp_path / "dump", programs=programs)
    for jobs in (1, 2):
        wanted = Wanted(jobs, keep_going=True)
        fresh_one = fresh(target)
        loaded = load(programs, plain, PostgresUri(fresh_one, "the test"), wanted)
        assert loaded.failed == ()
        assert [*loaded.warnings] == [
            'ERROR: unrecognized configuration parameter "transaction_timeout"'
        ]
        assert contents(fresh_one) == contents(database)
    with pytest.raises(Failure, match=r'ended early: .* parameter "transaction_timeout"'):
        load(programs, plain, PostgresUri(target, "the test"), Wanted(2))


def test_what_is_there_already_is_never_added_to(database: str, tmp_path: Path) -> None:
    """Whoever keeps going would give a table its rows twice and set a sequence back."""
    fill(
        database,
        "CREATE SCHEMA s; CREATE TYPE s.mood AS ENUM ('well'); CREATE TABLE t (id serial, x int);"
        "CREATE FUNCTION f(s.mood, int) RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE AGGREGATE a(*) (SFUNC = int8inc, STYPE = bigint, INITCOND = '0');"
        "CREATE VIEW v AS SELECT 1 AS x;"
        "CREATE TABLE p (x int) PARTITION BY LIST (x); CREATE TABLE p_1 PARTITION OF p DEFAULT;"
        "INSERT INTO t (x) VALUES (1), (2); INSERT INTO p VALUES (1); CREATE INDEX i ON t (x)",
    )
    plain = dump(database, tmp_path / "dump")
    fill(database, "SELECT setval('t_id_seq', 500); ALTER TABLE p RENAME TO q")
    before = contents(database)
    for jobs in (1, 2):
        everything = Wanted(jobs, beside=True, keep_going=True)
        with pytest.raises(Failure, match=r"has already: SCHEMA s, TYPE s\.mood, ") as told:
            brought(plain, database, everything)
        for each in (
            "a\\(\\*\\)",
            "f\\(s.mood, integer\\)",
            "VIEW public.v",
            "SEQUENCE public.t_id_seq",
        ):
            assert re.search(each, told.value.message)
        with pytest.raises(Failure, match=r"has already: TABLE public\.p_1\n"):
            brought(plain, database, Wanted(jobs, tables=("public.p",), keep_going=True))
    assert contents(database) == before
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT last_value FROM t_id_seq").fetchone() == (500,)
    fill(database, "ALTER SCHEMA public OWNER TO CURRENT_USER")
    named = brought(dump(database, tmp_path / "named"), fresh(database), Wanted(1))
    assert named.failed == ()
    made = brought(plain, database, Wanted(1, tables=("public.p",), schema="made"))
    assert (made.failed, contents(database)["made.p_1"]) == ((), ["(1)"])


def test_tables_in_another_schema_touch_nothing_that_stays(database: str, tmp_path: Path) -> None:
    """Neither can a row of it no longer be deleted, nor does it show rows of theirs."""
    fill(
        database,
        "CREATE TABLE inherits (inherits int); CREATE TABLE heir (y int) INHERITS (inherits);"
        "CREATE TABLE customer (id int PRIMARY KEY); INSERT INTO customer VALUES (1);"
        "CREATE TABLE sold (id int PRIMARY KEY, of int REFERENCES customer,"
        " after int REFERENCES sold);"
        "INSERT INTO sold VALUES (1, 1, 1); INSERT INTO heir VALUES (1, 2)",
    )
    plain = dump(database, tmp_path / "dump")
    alone = Wanted(1, tables=("public.heir",), schema="old")
    with pytest.raises(Failure, match=r"twice: TABLE public.heir inherits from public.inherits"):
        brought(plain, database, alone)
    both = replace(alone, tables=("public.heir", "public.inherits", "public.sold"))
    loaded = brought(plain, database, both)
    assert [(each.name, each.why) for each in loaded.left_out] == [
        ("sold sold_of_fkey", "it points to public.customer, which stays where it is")
    ]
    fill(database, "DELETE FROM sold; DELETE FROM customer")
    with psycopg.connect(database) as connection:
        for query in ("SELECT inherits FROM inherits", "SELECT inherits FROM old.inherits"):
            assert connection.execute(query).fetchall() == [(1,)]
        keys = "SELECT conname FROM pg_constraint WHERE connamespace = 'old'::regnamespace" \
               " AND contype = 'f'"  # fmt: skip
        assert connection.execute(keys).fetchall() == [("sold_after_fkey",)]


def test_a_view_is_never_a_tables_own(database: str, target: str, tmp_path: Path) -> None:
    """One that needs a table's key is made empty first: its body would replace the live view's."""
    fill(
        database,
        "CREATE TABLE t (id int PRIMARY KEY, x int); INSERT INTO t VALUES (1, 2);"
        "CREATE VIEW grouped AS SELECT id, x FROM t GROUP BY id; CREATE TABLE other (x int);"
        "CREATE VIEW above AS SELECT x FROM grouped; CREATE RULE r AS ON DELETE TO t DO NOTHING",
    )
    plain = dump(database, tmp_path / "dump")
    loaded = brought(plain, database, Wanted(1, tables=("public.t",), schema="old"))
    assert (loaded.failed, loaded.left_out) == ((), ())
    with psycopg.connect(database) as connection:
        body = "SELECT pg_get_viewdef('grouped'), count(*) FROM pg_rules WHERE rulename = 'r'"
        ((text, rules),) = connection.execute(body).fetchall()
        assert ("FROM t\n" in text, rules) == (True, 2)
    loaded = brought(plain, target, Wanted(2, excluded=("public.t",)))
    assert {(each.kind, each.name): each.why for each in loaded.left_out} == {
        ("VIEW", "grouped"): "it needs TABLE public.t",
        ("VIEW", "above"): "it needs VIEW public.grouped",
        ("RULE", "grouped _RETURN"): "it needs TABLE public.t",
    }
    with psycopg.connect(target) as connection:
        views = "SELECT count(*) FROM pg_views WHERE schemaname = 'public'"
        assert connection.execute(views).fetchone() == (0,)


def test_tables_come_back_into_a_database_without_their_schema(
    database: str, target: str, tmp_path: Path
) -> None:
    make_zoo(database)
    plain = dump(database, tmp_path / "dump")
    assert brought(plain, target, Wanted(1, tables=("a.b c", "a b.c"))).failed == ()
    assert contents(target) == {"a.b c": ["(7)"], "a b.c": []}
    with pytest.raises(Failure, match=r'TABLE public.* type "public.mood" does not exist'):
        brought(plain, target, Wanted(1, tables=(f"public.{CAGE}",)))


def test_a_partition_comes_back_without_its_parent(
    database: str, target: str, tmp_path: Path
) -> None:
    make_zoo(database)
    fill(target, "CREATE FUNCTION marks(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1'")
    fill(target, "CREATE SEQUENCE marks_id_seq")
    plain = dump(database, tmp_path / "dump")
    assert brought(plain, target, Wanted(1, tables=("public.marks_2",))).failed == ()
    expected = contents(database)["public.marks_2_x"]
    assert contents(target) == {"public.marks_2_x": expected}


def test_nothing_of_a_search_path_on_the_target_runs(
    database: str, target: str, tmp_path: Path
) -> None:
    """Were it not fixed, these would stand before PostgreSQL's own."""
    fill(database, "CREATE TABLE t AS SELECT 1 AS x; CREATE SEQUENCE s; SELECT nextval('s')")
    plain = dump(database, tmp_path / "dump")
    name = target.rpartition("/")[2]
    fill(
        target,
        "CREATE SCHEMA evil; CREATE TABLE evil.ran (what text);"
        "CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text LANGUAGE sql AS "
        "$$INSERT INTO evil.ran VALUES ('set_config'); SELECT ''$$;"
        "CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS "
        "$$INSERT INTO evil.ran VALUES ('current_setting'); SELECT ''$$;"
        "CREATE FUNCTION evil.setval(regclass, bigint, bool) RETURNS bigint LANGUAGE sql AS "
        "$$INSERT INTO evil.ran VALUES ('setval'); SELECT 1::bigint$$;"
        "CREATE VIEW evil.pg_roles AS SELECT 'nobody'::name AS rolname, false AS rolsuper;"
        f"ALTER DATABASE {name} SET search_path = evil, pg_catalog, public",
    )
    assert brought(plain, target, Wanted(2, owners="skip")).failed == ()
    assert contents(target) == {"evil.ran": [], "public.t": ["(1)"]}


def test_tables_are_known_by_the_manifest_before_anything_is_downloaded() -> None:
    objects = (
        SchemaObject(kind="TABLE", schema_name="public", name="marks", digest="0"),
        SchemaObject(kind="VIEW", schema_name="public", name="seen", digest="0"),
    )
    manifest = Manifest(
        id="some", database="zoo", dump=StoredDump(name="d", file_id="f", size=1, sha256="0" * 64),
        started=NOW, finished=NOW, objects=objects, recipients=(), program_version="1",
    )  # fmt: skip
    assert named_tables(manifest, ["public.marks"]) == (("public", "marks"),)
    with pytest.raises(WrongUse, match=r"holds no table public\.seen, public\.none"):
        named_tables(manifest, ["public.seen", "public.marks", "public.none"])


def test_a_dump_that_is_cut_short_is_told(database: str, target: str, tmp_path: Path) -> None:
    fill(database, "CREATE TABLE t AS SELECT repeat('x', 100000) FROM generate_series(1, 50)")
    plain = dump(database, tmp_path / "dump")
    whole = plain.read_bytes()
    plain.write_bytes(whole[: len(whole) // 2])
    for wanted in (Wanted(1), Wanted(1, keep_going=True)):
        with pytest.raises(Failure, match="could not read from input file: end of file"):
            brought(plain, target, wanted)
        target = fresh(target)

"""A database's owner plants what he can, and waits for somebody with more rights to run it.

Everything planted says so in the server's log, and tries to read and to write a table of others.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.dump import run_backup
from backup.manifest import TableContents
from backup.postgres.connection import PostgresUri
from backup.restoration import comparison
from backup.source.contents import list_tables
from backup.source.digests import SETTINGS, look, take
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House
    from tests.conftest import PostgresServer

# What each planted function does besides what it is asked for. A read-only transaction cannot stop
# the log.
TRAP = """
CREATE FUNCTION public.trap(name text) RETURNS int LANGUAGE plpgsql
SET search_path = pg_catalog AS $$
BEGIN
  IF current_user = '{owner}' THEN RETURN 0; END IF;
  RAISE LOG 'PLANTED % ran as %', name, current_user;
  BEGIN
    INSERT INTO public.loot SELECT name || pay FROM canary.payroll;
  EXCEPTION WHEN OTHERS THEN
    RAISE LOG 'PLANTED % was refused: %', name, SQLERRM;
  END;
  RETURN 1;
END $$;
"""
# Of PostgreSQL's own functions and operators, as calls without a schema may find them.
CALLS = (
    ("format", "text, name, name", "text"), ("format", "text, name, name, name", "text"),
    ("count", "bigint", "bigint"),
    ("set_config", "text, text, boolean", "text"),
    ("hashtextextended", "text, integer", "bigint"), ("sum", "bigint", "numeric"),
    ("pg_export_snapshot", "", "text"), ("current_setting", "text", "text"),
    ("quote_ident", "name", "text"), ("to_regclass", "text", "regclass"),
    ("pg_encoding_to_char", "integer", "name"), ("pg_table_size", "oid", "bigint"),
    ("to_jsonb", "anyelement", "jsonb"), ("pg_backend_pid", "", "integer"),
)  # fmt: skip
OPERATORS = (
    ("=", "name", "name"), ("=", "name", "text"), ("<>", "name", "text"), ("!~", "name", "text"),
    ("~~", "name", "text"), ("=", "oid", "integer"), ("=", "text", "name"),
    (">=", "oid", "smallint"), (">=", "oid", "integer"),
)  # fmt: skip
TABLES = """
CREATE TYPE public.humour AS ENUM ('well', 'unwell');
CREATE TYPE public.pair AS (a int, b text);
CREATE TYPE public.nested AS (p public.pair, m public.humour[], d date);
CREATE FUNCTION public.sane(int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
  BEGIN PERFORM public.trap('domain'); RETURN true; END $$;
CREATE DOMAIN public.sound AS int CHECK (public.sane(VALUE));
CREATE DOMAIN public.word AS text;
CREATE FUNCTION public.fixed(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
  BEGIN PERFORM public.trap('index'); RETURN $1; END $$;
CREATE TABLE public.plain (a int, b text, c numeric, d timestamptz, e bytea, f uuid, g bigint);
INSERT INTO public.plain VALUES (1, 'one', 1.0, now(), 'x', gen_random_uuid(), 1);
CREATE TABLE public.composed (p public.pair, n public.nested, m public.humour, s public.sound,
  w public.word, r int4range, rs numrange[], ss public.sound[]);
INSERT INTO public.composed VALUES
  ((1, 'x'), ((1, 'x'), '{well}', '2026-01-01'), 'well', 1, 'w', '[1,2)', '{"[1,2)"}', '{1}');
CREATE TABLE public.indexed (a int, b int GENERATED ALWAYS AS (public.fixed(2)) STORED);
INSERT INTO public.indexed SELECT 1;
CREATE INDEX ON public.indexed ((a + public.fixed(7)));
CREATE TABLE public.partial (a int);
CREATE INDEX ON public.partial (a) WHERE public.fixed(7) = 7;
CREATE TABLE public.measured (a int, b int);
CREATE STATISTICS public.both_of ON (a + public.fixed(7)), b FROM public.measured;
CREATE TABLE public.checked (a int CHECK (public.sane(a)));
INSERT INTO public.checked VALUES (1);
ALTER TABLE public.checked ADD CHECK (public.fixed(a) > 0) NOT VALID;
CREATE TABLE public.parted (a int) PARTITION BY LIST (a);
CREATE TABLE public.part PARTITION OF public.parted FOR VALUES IN (1);
CREATE INDEX ON public.parted (public.fixed(a));
CREATE VIEW public.pg_class AS SELECT public.trap('view pg_class');
CREATE VIEW public.pg_settings AS SELECT public.trap('view pg_settings');
CREATE MATERIALIZED VIEW public.seen AS SELECT 1 AS a;
CREATE TABLE public.loot (what text);
GRANT INSERT ON public.loot TO PUBLIC;
"""
CASTS = """
CREATE FUNCTION public.as_text(public.{type}) RETURNS text LANGUAGE plpgsql AS $$
  BEGIN PERFORM public.trap('cast of {type}'); RETURN 'same'; END $$;
CREATE CAST (public.{type} AS text) WITH FUNCTION public.as_text(public.{type}) AS IMPLICIT;
"""


def planted(owner: str) -> Iterator[str]:
    yield TRAP.format(owner=owner)
    yield TABLES
    for type_name in ("plain", "composed", "indexed", "pair", "nested", "humour"):
        yield CASTS.format(type=type_name)
    for name, takes, returns in CALLS:
        kept = "$1" if takes.partition(",")[0] == returns else f"NULL::{returns}"
        yield f"""CREATE FUNCTION public.{name}({takes}) RETURNS {returns} IMMUTABLE
        LANGUAGE plpgsql AS $$ BEGIN PERFORM public.trap('{name}'); RETURN {kept}; END $$"""
    for number, (sign, left, right) in enumerate(OPERATORS):
        yield f"""CREATE FUNCTION public.op_{number}({left}, {right}) RETURNS boolean IMMUTABLE
        LANGUAGE plpgsql AS $$ BEGIN PERFORM public.trap('{sign}'); RETURN NULL; END $$"""
        yield f"""CREATE OPERATOR public.{sign} (LEFTARG = {left}, RIGHTARG = {right},
        FUNCTION = public.op_{number})"""


@dataclass(frozen=True)
class Trapped:
    """A house whose database has an owner who is no superuser, and not idle."""

    house: House
    owner: str
    server: PostgresServer
    begins: int  # of what counts in the server's log

    def ran(self) -> list[str]:
        """Return what was run that he planted, and what it took."""
        text = self.server.log.read_bytes()[self.begins :].decode(errors="replace")
        with psycopg.connect(self.house.source) as connection:
            loot = connection.execute("SELECT what FROM public.loot").fetchall()
        return [line for line in text.splitlines() if "PLANTED" in line] + [
            what for (what,) in loot
        ]


@pytest.fixture
def trapped(house: House, postgres: PostgresServer) -> Iterator[Trapped]:
    owner = f"owner_{secrets.token_hex(4)}"
    name = house.source.rpartition("/")[2]
    with psycopg.connect(house.source, autocommit=True) as connection:
        for statement in (
            f"CREATE ROLE {owner} LOGIN PASSWORD 'x'",
            f"ALTER DATABASE {name} OWNER TO {owner}",
            f"ALTER SCHEMA public OWNER TO {owner}",
            "CREATE SCHEMA canary",
            "CREATE TABLE canary.payroll AS SELECT 4711 AS pay",
            f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
        ):
            connection.execute(statement.encode())
    theirs = f"postgresql://{owner}:x@{house.source.rpartition('@')[2]}"
    with psycopg.connect(theirs, autocommit=True) as connection:
        connection.execute("SET search_path = pg_catalog")
        for statement in planted(owner):
            connection.execute(statement.encode())
    yield Trapped(house, owner, postgres, postgres.log.stat().st_size)
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute(f"REASSIGN OWNED BY {owner} TO postgres".encode())


def test_nothing_that_an_owner_planted_runs_during_backup_or_comparison(trapped: Trapped) -> None:
    house = trapped.house
    manifest = run_backup(house.settings, house.database)
    assert trapped.ran() == []
    assert [table.table for table in manifest.tables if table.unproved] == []
    manners = {table.table: (table.digest or "").partition(":")[0] for table in manifest.tables}
    assert {name for name, manner in manners.items() if manner == "copy"} == {
        "indexed", "measured", "part", "partial"
    }  # fmt: skip
    restored = PostgresUri(house.source, "a superuser")
    assert comparison.compare(manifest, restored, 2, PG_BIN) == []
    assert trapped.ran() == []


def test_commands_run_nothing_that_is_planted(trapped: Trapped) -> None:
    house = trapped.house
    assert house.run("run", "hr").returncode == 0
    house.secret("servers.json", f'{{"postgres": "{house.source}"}}')
    house.read()
    assert "hr" in house.run("coverage").stdout
    assert trapped.ran() == []


def test_the_trap_springs_on_who_casts_a_row(trapped: Trapped) -> None:
    """Else the tests above would show nothing."""
    with psycopg.connect(trapped.house.source, autocommit=True) as connection:
        connection.execute("SELECT (t.*)::text FROM public.plain t")
        connection.execute("SELECT format('%I', 'a'::name, 'b'::name)")
        connection.execute("EXPLAIN SELECT count(*) FROM public.indexed")
    ran = " ".join(trapped.ran())
    for name in ("cast of plain", "format", "index"):
        assert f"PLANTED {name} ran as postgres" in ran
    assert "4711" in ran


def test_each_manner_tells_a_change_of_each_column(trapped: Trapped) -> None:
    changes = {
        "plain": ("a = 2", "b = 'two'", "c = 1.00", "d = d + interval '1 us'", "e = 'y'",
                  "f = gen_random_uuid()", "g = g + (1::bigint << 32)"),
        "composed": ("p = (1, 'y')", "n = ((1, 'x'), '{unwell}', '2026-01-01')", "m = 'unwell'",
                     "s = 2", "w = 'v'", "r = '[1,3)'", "rs = '{\"[1,3)\"}'", "ss = '{2}'"),
    }  # fmt: skip
    uri = PostgresUri(trapped.house.source, "a superuser")
    with uri.connect("test") as connection:
        connection.execute(SETTINGS)
        for schema, table in list_tables(connection):
            if table not in changes:
                continue
            for manner in ("columns", "copy", "row"):

                def taken() -> TableContents:
                    shape = look(connection, (schema, table))  # noqa: B023
                    rows, digest = take(connection, shape, manner)  # noqa: B023
                    return TableContents(schema_name=schema, table=table, rows=rows, digest=digest)  # noqa: B023

                digests = {taken().digest}
                for change in changes[table]:
                    with connection.transaction(force_rollback=True):
                        connection.execute(f"UPDATE public.{table} SET {change}".encode())
                        digests.add(taken().digest)
                    with connection.transaction(force_rollback=True):
                        column = change.partition(" ")[0]
                        connection.execute(f"UPDATE public.{table} SET {column} = NULL".encode())
                        digests.add(taken().digest)
                assert len(digests) == 1 + 2 * len(changes[table]), (table, manner)

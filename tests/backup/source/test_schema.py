"""Objects of a schema: what has changed is named, and what has not is the same."""

from __future__ import annotations

import io
import secrets
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.postgres.connection import PostgresUri
from backup.restoration.comparison import compare_objects
from backup.source.schema import fingerprints, read_contents
from tests.conftest import PG_BIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.manifest import SchemaObject

MADE = """
CREATE EXTENSION hstore; CREATE EXTENSION citext;
CREATE TABLE people (id int PRIMARY KEY, name text DEFAULT 'x' CHECK (name <> ''), age int);
CREATE TABLE visits (id int GENERATED ALWAYS AS IDENTITY, person int REFERENCES people);
CREATE INDEX by_name ON people (name);
CREATE INDEX by_age ON people (age);
CREATE VIEW old AS SELECT id FROM people WHERE age > 99;
CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Name: this; Type: TABLE; Schema: is; Owner: none
  RETURN new;
END $$;
CREATE TRIGGER stamped BEFORE INSERT ON visits FOR EACH ROW EXECUTE FUNCTION stamp();
ALTER TABLE people ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON people USING (name = current_user);
CREATE PUBLICATION changes FOR TABLE people WITH (publish = 'insert');
GRANT SELECT ON people TO {role};
GRANT INSERT (name) ON people TO {role};
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {role};
COMMENT ON TABLE visits IS 'of today
--
-- and of tomorrow';
CREATE STATISTICS both_of ON name, age FROM people;
CREATE RULE quiet AS ON UPDATE TO visits DO INSTEAD NOTHING;
"""
CHANGED = """
DROP INDEX by_name;
DROP INDEX by_age; CREATE INDEX by_age ON people (age DESC);
ALTER TABLE visits DROP CONSTRAINT visits_person_fkey;
ALTER TABLE people DROP CONSTRAINT people_pkey;
DROP VIEW old; DROP AGGREGATE total(int); DROP TRIGGER stamped ON visits;
CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Name: that; Type: TABLE; Schema: is; Owner: none
  RETURN new;
END $$;
DROP POLICY own ON people;
ALTER TABLE people DISABLE ROW LEVEL SECURITY;
DROP PUBLICATION changes; DROP EXTENSION hstore;
REVOKE SELECT ON people FROM {role};
GRANT UPDATE (name) ON people TO {role};
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM {role};
ALTER TABLE people ALTER age TYPE bigint;
ALTER TABLE visits OWNER TO {role};
COMMENT ON TABLE visits IS 'of today
--
-- and of yesterday';
DROP STATISTICS both_of;
DROP RULE quiet ON visits;
CREATE VIEW young AS SELECT id FROM people;
"""
DIFFERENCES = [
    "acl public.COLUMN people.name is not the same",
    "acl public.TABLE people is missing",
    "aggregate public.total(integer) is missing",
    "comment EXTENSION hstore is missing",
    "comment public.TABLE visits is not the same",
    "constraint public.people people_pkey is missing",
    "default acl DEFAULT PRIVILEGES FOR TABLES is missing",
    "extension hstore is missing",
    "fk constraint public.visits visits_person_fkey is missing",
    "function public.stamp() is not the same",
    "index public.by_age is not the same",
    "index public.by_name is missing",
    "policy public.people own is missing",
    "publication changes is missing",
    "publication table public.changes people is missing",
    "row security public.people is missing",
    "rule public.visits quiet is missing",
    "statistics public.both_of is missing",
    "table public.people is not the same",
    "table public.visits is owned by {role}, not postgres",
    "trigger public.visits stamped is missing",
    "view public.old is missing",
    "view public.young is not in the manifest",
]


@pytest.fixture
def role(database: str) -> Iterator[str]:
    name = f"role_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name}".encode())
        yield name
        connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def objects(uri: str) -> tuple[SchemaObject, ...]:
    return fingerprints(PG_BIN, PostgresUri(uri, "the test"))


def test_every_change_of_a_schema_is_named(database: str, role: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(MADE.format(role=role).encode())
        before = objects(database)
        assert compare_objects(before, objects(database)) == []
        connection.execute(CHANGED.format(role=role).encode())
        after = objects(database)
    assert compare_objects(before, after) == [text.format(role=role) for text in DIFFERENCES]
    without = compare_objects(before, after, owners=False)
    assert without == [text for text in DIFFERENCES if "acl " not in text and "owned" not in text]
    by_name = compare_objects(before, after, owners=False, names_only=True)
    assert by_name == [text for text in without if "not the same" not in text]


def test_an_empty_database_has_no_object(database: str) -> None:
    assert objects(database) == ()


def test_objects_of_one_name_are_one(database: str) -> None:
    names = '"a b" AS (c int)', '"a\nb" AS (c text)'
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("; ".join(f"CREATE TYPE {name}" for name in names).encode())
        (one,) = objects(database)
        connection.execute(b"""ALTER TYPE "a\nb" ADD ATTRIBUTE d int""")
        (other,) = objects(database)
    assert (one.kind, one.schema_name, one.name) == ("TYPE", "public", "a b")
    assert other.digest != one.digest


def test_a_full_dump_tells_the_same_objects_and_what_has_rows(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(b"""
        CREATE TABLE t (id serial, n int); CREATE TABLE parted (n int) PARTITION BY LIST (n);
        CREATE MATERIALIZED VIEW m AS SELECT 1 AS a; CREATE SEQUENCE "un'asked"; CREATE SEQUENCE s;
        SELECT setval('s', -1 + 8); SELECT setval('t_id_seq', 9, false);
        SELECT lo_from_bytea(7, 'large'); COMMENT ON LARGE OBJECT 7 IS 'x';
        GRANT SELECT ON LARGE OBJECT 7 TO PUBLIC; COMMENT ON TABLE t IS 'x'""")
        name = connection.info.dbname
        connection.execute(f"COMMENT ON DATABASE {name} IS 'x'".encode())
        connection.execute(f"ALTER DATABASE {name} SET work_mem = '5MB'".encode())
        connection.execute(f"GRANT CREATE ON DATABASE {name} TO PUBLIC".encode())
    dumped = subprocess.run(
        [PG_BIN / "pg_dump", "--format=custom", database], check=True, capture_output=True
    ).stdout
    contents = read_contents(io.BytesIO(dumped))
    assert contents.objects == objects(database)
    assert contents.with_rows == {("public", "t")}
    assert contents.sequences == {
        ("public", "un'asked"): None, ("public", "s"): 7, ("public", "t_id_seq"): None
    }  # fmt: skip


def test_objects_of_a_database_in_no_encoding_are_told(database: str) -> None:
    name = f"ascii_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        create = f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
        connection.execute(create.encode())
    uri = database.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(uri, client_encoding="SQL_ASCII", autocommit=True) as connection:
        connection.execute(b'CREATE TABLE "T\xe4ble" (a int)')
        (found,) = objects(uri)
        assert (found.kind, found.name) == ("TABLE", "T\\xe4ble")

"""The school is the same every time, changes as it says, and is as untidy as it must be."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from typer.testing import CliRunner

from standins.school.__main__ import app
from standins.school.digest import digests
from standins.school.errors import OccupiedError, SchoolError
from standins.school.load import DATABASES, TABLES, Mark, load
from standins.school.mutate import mutate

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

SMALL, SEED = 0.01, 7


def one(connection: Connection, query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("database_", DATABASES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(
    connection: Connection, other: Connection, database_: str
) -> None:
    other.execute("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'")
    load(connection, database_, SMALL, SEED)
    load(other, database_, SMALL, SEED)
    other.execute("RESET TimeZone; RESET DateStyle")
    first = digests(connection)
    assert digests(other) == first

    assert not load(other, database_, SMALL, SEED + 1, replace=True).already_there
    empty = {"results_other"}
    assert [t for t, d in digests(other).items() if d == first[t] and t not in empty] == []


def test_the_bytes_of_seed_7_are_the_same_on_every_machine_and_day(connection: Connection) -> None:
    found = hashlib.sha256()
    for database in DATABASES:
        load(connection, database, SMALL, SEED, replace=True)
        found.update(repr(digests(connection)).encode())
    # Changes with any row or column; say the new one when that was meant.
    assert found.hexdigest() == "622535a00315372844cb01d0aa1a83c36f2dea16775e2a529eaf1d88658db2e1"


@pytest.mark.parametrize("database_", DATABASES)
def test_a_loaded_database_is_left_alone_and_says_so(
    connection: Connection, database_: str
) -> None:
    done = load(connection, database_, SMALL, SEED)
    assert not done.already_there
    assert min(done.rows.values()) > 0
    mutate(connection, database_, 1)
    before = digests(connection)
    again = load(connection, database_, SMALL, SEED)
    assert again.already_there
    assert digests(connection) == before


def test_another_school_is_refused_unless_told_to_replace_it(connection: Connection) -> None:
    load(connection, "hr", SMALL, SEED)
    before = digests(connection)
    for database, scale, seed in (("hr", SMALL, 8), ("hr", 0.02, SEED), ("records", SMALL, SEED)):
        with pytest.raises(OccupiedError, match=r"hr, scale 0\.01, seed 7"):
            load(connection, database, scale, seed)
    assert digests(connection) == before

    load(connection, "records", SMALL, SEED, replace=True)
    assert "students" in digests(connection)
    assert "employees" not in digests(connection)


def test_an_older_edition_is_told_apart_and_is_replaced_only_when_told(
    connection: Connection,
) -> None:
    load(connection, "hr", SMALL, SEED)
    current = Mark("hr", SMALL, SEED)
    # As the first edition marked it.
    connection.execute("COMMENT ON SCHEMA public IS 'Harmattan''s school: hr, scale 0.01, seed 7'")
    older = Mark.read(connection.cursor())
    assert older == Mark("hr", SMALL, SEED, edition=1)
    assert current.replaces(older)
    with pytest.raises(OccupiedError, match=r"holds .* seed 7, not .* seed 7, edition 2"):
        load(connection, "hr", SMALL, SEED)
    with pytest.raises(SchoolError, match="expected edition 2 of the school's hr, found 1"):
        mutate(connection, "hr", 1)

    assert not load(connection, "hr", SMALL, SEED, replace=True).already_there
    assert Mark.read(connection.cursor()) == current


@pytest.mark.parametrize(
    "held",
    [None, Mark("hr", 1.0, 7), Mark("hr", 1.0, 8, edition=1), Mark("hr", 2.0, 7, edition=1),
     Mark("records", 1.0, 7, edition=1)],
)  # fmt: skip
def test_only_the_same_school_of_an_older_edition_is_outdated(held: Mark | None) -> None:
    assert not Mark("hr", 1.0, 7).replaces(held)


def test_what_is_not_a_school_is_never_dropped(connection: Connection) -> None:
    connection.execute("CREATE TABLE mine (id int)")
    with pytest.raises(OccupiedError, match="mine"):
        load(connection, "hr", SMALL, SEED, replace=True)
    assert one(connection, "SELECT count(*) FROM mine") == 0


def test_a_load_that_fails_leaves_nothing(connection: Connection) -> None:
    def interrupted(table: str, rows: int) -> None:
        raise KeyboardInterrupt(table, rows)

    with pytest.raises(KeyboardInterrupt):
        load(connection, "hr", SMALL, SEED, progress=interrupted)
    assert digests(connection) == {}
    assert not load(connection, "hr", SMALL, SEED).already_there


@pytest.mark.parametrize(
    ("database_", "scale"), [("pupils", 1.0), ("hr", 0.0), ("hr", float("nan"))]
)
def test_a_database_or_scale_that_is_not_there_is_named(
    connection: Connection, database_: str, scale: float
) -> None:
    with pytest.raises(SchoolError, match="HINT"):
        load(connection, database_, scale, SEED)


def test_the_owner_of_a_database_needs_no_more_rights(
    database: str,
) -> None:
    with closing(psycopg.connect(database, autocommit=True)) as connection:
        name = one(connection, "SELECT current_database()")
        connection.execute(f"CREATE ROLE owner_{name}".encode())
        connection.execute(f"ALTER DATABASE {name} OWNER TO owner_{name}".encode())
        connection.execute(f"SET ROLE owner_{name}".encode())
        load(connection, "service_desk", SMALL, SEED)
        load(connection, "hr", SMALL, SEED, replace=True)
        mutate(connection, "hr", 1)
        assert one(connection, "SELECT count(*) FROM employees") > 0


@pytest.mark.parametrize("database_", DATABASES)
def test_keys_and_checks_hold_and_the_schema_has_what_sources_have(
    connection: Connection, database_: str
) -> None:
    load(connection, database_, SMALL, SEED)
    mutate(connection, database_, 1)
    bad = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated"
    assert one(connection, bad) == 0
    # Every foreign key is checked again from nothing.
    for table, name, definition in connection.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND conparentid = 0"
    ).fetchall():
        statement = f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD {definition}"
        connection.execute(statement.encode())
    views = connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
    for (view,) in views.fetchall():
        assert one(connection, f"SELECT count(*) FROM {view}") > 0, view
    of_two = (
        "SELECT max(n) FROM (SELECT count(DISTINCT table_name) AS n FROM"
        " information_schema.view_table_usage GROUP BY view_name) AS used"
    )
    assert one(connection, of_two) >= 2


def test_tidy_types_and_untidy_rows_are_all_there_at_the_smallest_scale(
    connection: Connection,
) -> None:
    load(connection, "hr", SMALL, SEED)
    for what in (
        "given_name ~ '\"'", "family_name ~ ''''", "family_name LIKE '%\\\\%'",
        "given_name ~ E'\\t'", "family_name ~ E'\\n'", "given_name = E'\\\\N'",
        "family_name ~ ' $'", "native_name ~ 'ليلى'",
        "native_name ~ '小明'", "native_name ~ 'प्रिया'", "native_name ~ '🇬🇭'", "email = ''",
        "email IS NULL", "email <> lower(email)", "email <> trim(email)",
        "birth_date = '1900-01-01'", "left_on = '9999-12-31'", "left_on IS NULL",
        "given_name || family_name ~ '[ɛɔŋƒƐƆŊ]'", "photo IS NOT NULL", "languages = '{}'",
    ):  # fmt: skip
        assert one(connection, f"SELECT count(*) FROM employees WHERE {what}") > 0, what
    twins = one(
        connection,
        "SELECT count(*) FROM employees a JOIN employees b ON a.birth_date = b.birth_date"
        " AND a.phone = b.phone AND a.full_name < b.full_name",
    )
    assert twins > 0
    load(connection, "records", SMALL, SEED, replace=True)
    assert one(connection, "SELECT count(*) FROM exams WHERE difficulty = 'NaN'") > 0
    assert one(connection, "SELECT count(*) FROM results WHERE array_position(marks, NULL) > 0") > 0


@pytest.mark.parametrize("database_", DATABASES)
def test_no_row_is_of_tomorrow(connection: Connection, database_: str) -> None:
    load(connection, database_, SMALL, SEED)
    for table in TABLES[database_]:
        query = f"SELECT max(updated_at) < '2026-11-21 00:00+00' FROM {table.name}"
        assert one(connection, query), table.name


@pytest.mark.parametrize("database_", DATABASES)
def test_every_script_survives_a_round_trip_by_copy(
    connection: Connection, other: Connection, database_: str
) -> None:
    load(connection, database_, SMALL, SEED)
    load(other, database_, SMALL, SEED)
    for table in reversed(TABLES[database_]):
        other.execute(f"TRUNCATE {table.name} CASCADE".encode())
    for table in TABLES[database_]:
        columns = ", ".join(
            name
            for (name,) in connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                " AND attgenerated = '' ORDER BY attnum",
                (table.name,),
            ).fetchall()
        )
        out = f"COPY (SELECT {columns} FROM {table.name}) TO STDOUT".encode()
        into = f"COPY {table.name} ({columns}) FROM STDIN".encode()
        with connection.cursor().copy(out) as source, other.cursor().copy(into) as target:
            for block in source:
                target.write(block)
    assert digests(connection) == digests(other)


def test_python_reads_back_the_text_it_wrote(connection: Connection) -> None:
    load(connection, "service_desk", SMALL, SEED)
    table = next(table for table in TABLES["service_desk"] if table.name == "comments")
    at = table.columns.index("body")
    wrote = [row[at] for row in table.rows(SEED, SMALL)]
    read = connection.execute("SELECT body FROM comments").fetchall()
    assert [body for (body,) in read] == wrote


def school(uri: str, *arguments: str) -> tuple[int, str]:
    done = CliRunner(env={"SCHOOL_URI": uri}).invoke(app, arguments)
    return done.exit_code, done.output


def test_the_command_line_loads_says_so_refuses_and_makes_a_day(database: str) -> None:
    hr = ("load", "--database", "hr", "--scale", "0.01", "--seed")
    for arguments, code, words in (
        ((*hr, "7"), 0, "loaded Harmattan's school: hr, scale 0.01, seed 7"),
        ((*hr, "7"), 0, "nothing to do"),
        ((*hr, "8"), 3, "HINT: Say --replace"),
        ((*hr, "8", "--replace"), 0, "loaded"),
        (("mutate", "--database", "hr"), 0, "employees: 2 inserted, 4 updated, 0 deleted"),
        (("mutate", "--database", "records"), 1, "expected the school's records"),
        (("load", "--database", "pupils"), 2, "Invalid value"),
    ):
        found, output = school(database, *arguments)
        assert (found, words in output) == (code, True), output


def test_the_uri_comes_by_the_environment_and_is_never_shown(database: str) -> None:
    password = psycopg.conninfo.conninfo_to_dict(database)["password"]
    # libpq would quote the whole of what it cannot read.
    misspelt = database.replace("postgresql://", "postgresqll://")
    for uri, code in ((misspelt, 2), (database + "_gone", 1), ("", 2)):
        found, output = school(uri, "load", "--database", "hr")
        assert found == code, output
        assert str(password) not in output


def test_it_runs_as_a_module_and_teaches() -> None:
    command = [sys.executable, "-m", "standins.school", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "SCHOOL_URI" in done.stdout
    assert "Exit codes" in done.stdout

"""The application goes on while its tables are read, and what it changes then is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import reading, run
from ingest.errors import RunFailedError
from ingest.job import Scope
from ingest.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.world import World

# The largest is read first; by one session, the small ones come after it.
TABLES = (
    "CREATE TABLE big AS SELECT id, repeat('x', 50) AS filling FROM generate_series(1, 20000) id",
    "CREATE TABLE small (id int PRIMARY KEY, mail text, phone text)",
    "INSERT INTO small VALUES (1, 'ada@school.example', '12')",
    "CREATE VIEW seen AS SELECT id, mail FROM small",
    "CREATE TABLE terms (id int NOT NULL) PARTITION BY LIST (id)",
    "CREATE TABLE term_1 PARTITION OF terms FOR VALUES IN (1)",
    "CREATE TABLE term_2 PARTITION OF terms FOR VALUES IN (2)",
    "INSERT INTO terms VALUES (1), (2)",
    "CREATE TABLE empty (id int NOT NULL, name text) PARTITION BY LIST (id)",
    "CREATE TABLE full_1 AS SELECT 9 AS id, ''::text AS name FROM generate_series(1, 5)",
    "CREATE TABLE lone AS SELECT 1 AS id", "CREATE TABLE child AS SELECT 9 AS id",
    "CREATE TABLE filled AS SELECT 9 AS id FROM generate_series(1, 5)",
    "CREATE TABLE people (id int)", "CREATE TABLE pupils () INHERITS (people)",
    "INSERT INTO people VALUES (1)", "INSERT INTO pupils VALUES (2)",
    "ANALYZE",
)  # fmt: skip
ALL = (
    "public.big", "public.small", "public.seen", "public.terms", "public.people", "public.empty",
    "public.lone",
)  # fmt: skip


def run_beside(world: World, *statements: str, report: Report | None = None) -> Report:
    """Run by one session; while ``big`` is read, the application runs ``statements``."""
    job = world.job(*ALL)
    report = report or Report("hr", job.run_id)
    left = list(statements)

    def application(table: str, _size: int) -> None:
        if table == "raw_hr.big" and left:
            with psycopg.connect(world.source_admin) as connection:
                connection.execute("SET LOCAL lock_timeout = '2s'")
                while left:
                    connection.execute(left.pop(0).encode())

    run.run(job, Scope(jobs=1, progress=application), report=report)
    assert not left
    return report


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        (["TRUNCATE small"], {"small", "seen"}),
        (["ALTER TABLE small ALTER id TYPE bigint"], {"small"}),
        (["ALTER TABLE small RENAME mail TO m", "ALTER TABLE small RENAME phone TO mail",
          "ALTER TABLE small RENAME m TO phone"], {"small"}),
        (["ALTER TABLE small DROP COLUMN phone"], {"small"}),
        (["DROP VIEW seen", "DROP TABLE small",
          "CREATE TABLE small (id int PRIMARY KEY, mail text, phone text)",
          "CREATE VIEW seen AS SELECT id, mail FROM small",
          "GRANT SELECT ON small, seen TO ingest_reader"], {"small", "seen"}),
        (["CREATE OR REPLACE VIEW seen AS SELECT 7 AS id, ''::text AS mail FROM pg_class LIMIT 0",
          "DROP TABLE small"], {"small"}),
        (["ALTER TABLE terms DETACH PARTITION term_2"], {"terms"}),
        (["ALTER TABLE pupils NO INHERIT people"], {"people"}),
        (["TRUNCATE pupils", "TRUNCATE term_1"], {"people", "terms"}),
    ],
)  # fmt: skip
def test_a_table_that_was_changed_since_the_snapshot_fails_and_comes_right(
    world: World, changes: list[str], moved: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSES", ())
    if "ALTER id TYPE" in changes[0]:
        changes = ["DROP VIEW seen", *changes]
        moved = {*moved, "seen"}
    world.at_source(*TABLES)
    report = Report("hr", "one")
    with pytest.raises(RunFailedError):
        run_beside(world, *changes, report=report)
    rows = world.rows("SELECT \"table\", error FROM ops.tables WHERE status = 'failed' ORDER BY 1")
    tables = {name.partition(".")[2] for name in ALL}
    assert {each.table.removeprefix("raw_hr.") for each in report.loaded} == tables - moved
    assert {table.removeprefix("raw_hr.") for table, _ in rows} == moved
    assert all("found it changed since" in error for _, error in rows)


def test_a_table_that_was_changed_is_read_again_by_the_same_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.1,))
    world.at_source(*TABLES)
    report = run_beside(world, "TRUNCATE small", "INSERT INTO small VALUES (7), (8)")
    assert {each.table: each.rows for each in report.loaded}["raw_hr.small"] == 2
    assert world.rows("SELECT id FROM raw_hr.seen ORDER BY 1") == [(7,), (8,)]


def test_the_application_changes_small_tables_while_a_large_one_is_read(world: World) -> None:
    world.at_source(*TABLES)
    report = run_beside(
        world,
        "ALTER TABLE child INHERIT lone",
        "ALTER TABLE full_1 ALTER id SET NOT NULL",
        "ALTER TABLE empty ATTACH PARTITION full_1 FOR VALUES IN (9)",
        "ALTER TABLE small ADD COLUMN born date",
        "ALTER TABLE terms ADD COLUMN name text",
        "ALTER TABLE filled ADD name text, ALTER id SET NOT NULL",
        "ALTER TABLE terms ATTACH PARTITION filled FOR VALUES IN (9)",
        "CREATE TABLE term_3 PARTITION OF terms FOR VALUES IN (3)",
        "INSERT INTO terms VALUES (3)",
    )
    assert {each.table: each.rows for each in report.loaded} == {
        "raw_hr.big": 20000, "raw_hr.people": 2, "raw_hr.seen": 1, "raw_hr.small": 1,
        "raw_hr.terms": 2, "raw_hr.empty": 0, "raw_hr.lone": 1,
    }  # fmt: skip
    # What joined had rows at the first run's snapshot, and is the next one's.
    after = world.run("public.terms", "public.empty", "public.lone").loaded
    assert {each.table: each.rows for each in after} == {
        "raw_hr.terms": 8, "raw_hr.empty": 5, "raw_hr.lone": 2,
    }  # fmt: skip


@pytest.fixture(params=["ingest_reader", "ingest_loader"])
def one_connection(world: World, request: pytest.FixtureRequest) -> Iterator[None]:
    with psycopg.connect(world.source_admin, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {request.param} CONNECTION LIMIT 1")
        yield
        connection.execute(f"ALTER ROLE {request.param} CONNECTION LIMIT -1")


@pytest.mark.usefixtures("one_connection")
def test_one_connection_is_enough_and_a_table_that_fails_leaves_it_to_the_others(
    world: World,
) -> None:
    world.at_source(*TABLES, "CREATE VIEW broken AS SELECT 1 / (id - 20000) AS x FROM big")
    job = world.job(*ALL, "public.broken")
    report = Report("hr", job.run_id)
    with pytest.raises(RunFailedError):
        run.run(job, report=report)
    assert list(report.failed) == ["raw_hr.broken"]
    assert len(report.loaded) == len(ALL)

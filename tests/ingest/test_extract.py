"""What stands in the way of one table of the source stops that table, and no other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import run
from ingest.errors import RunFailedError
from ingest.job import Scope
from ingest.report import Report
from tests.ingest.world import stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.world import World

TABLES = (
    "CREATE TABLE one (id int PRIMARY KEY)", "CREATE TABLE two (id int PRIMARY KEY, secret text)",
    "INSERT INTO one VALUES (1)", "INSERT INTO two VALUES (2)",
)  # fmt: skip
ALL = "name: public.*"


def run_all(world: World, text: str = ALL, head: str = "") -> tuple[list[str], dict[str, str]]:
    """Return the tables that were published, and the errors of those that were not."""
    job = world.job(text, head=head)
    report = Report("hr", job.run_id)
    with pytest.raises(RunFailedError):
        run.run(job, Scope(), report=report)
    errors = {table: str(error) for table, error in report.failed.items()}
    return [each.table for each in report.loaded], errors


@contextmanager
def locked(world: World, table: str) -> Iterator[None]:
    with psycopg.connect(world.source_admin) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        yield


@pytest.mark.parametrize(
    "grant", ["REVOKE SELECT ON two FROM ingest_reader",
              "REVOKE SELECT ON two FROM ingest_reader; GRANT SELECT (id) ON two TO ingest_reader"]
)  # fmt: skip
def test_a_table_that_may_not_be_read_fails_by_itself(world: World, grant: str) -> None:
    world.at_source(*TABLES)
    with psycopg.connect(world.source_admin) as connection:
        connection.execute(grant.encode())
    loaded, errors = run_all(world)
    assert loaded == ["raw_hr.one"]
    assert list(errors) == ["raw_hr.two"]
    assert "table public.two: expected the right to read it, found none" in errors["raw_hr.two"]
    assert "leave it out by except" in errors["raw_hr.two"]
    rest = world.run("name: public.*\n    except: [public.t*]")
    assert [each.table for each in rest.loaded] == ["raw_hr.one"]


def test_a_table_that_somebody_holds_is_tried_in_short_turns_and_fails_by_itself(
    world: World,
) -> None:
    world.at_source(*TABLES)
    with locked(world, "two"):
        loaded, errors = run_all(world, head="limits: {lock_wait: 1s}\n")
    assert loaded == ["raw_hr.one"]
    assert "could not obtain lock on relation" in errors["raw_hr.two"]
    assert len(world.run(ALL).loaded) == 2


def test_a_table_outside_of_the_pipeline_that_somebody_holds_is_not_waited_for(
    world: World,
) -> None:
    world.at_source(*TABLES)
    with locked(world, "two"):
        assert [each.table for each in world.run("public.one").loaded] == ["raw_hr.one"]


def test_a_run_that_was_killed_is_closed_by_the_next(world: World) -> None:
    world.at_source(*TABLES)
    job = world.job(ALL, run_id="killed")
    with job.warehouse() as target:
        stage(job, target)
    world.run(ALL)
    assert world.rows("SELECT status, error FROM ops.runs WHERE run_id = 'killed'") == [
        ("failed", "the run was killed, or its machine lost")
    ]
    assert world.rows("SELECT status FROM ops.pipelines") == [("success",)]

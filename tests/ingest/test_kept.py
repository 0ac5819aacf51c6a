"""What lies in staging goes when nobody is to publish it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest import kept, run
from ingest.errors import CheckFailedError, RunFailedError

if TYPE_CHECKING:
    from tests.ingest.world import World

NEVER = "\n    checks: {rows: {min: 9}}"
STAGED = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'raw_hr_staging'::regnamespace AND relkind = 'r'
"""


@pytest.fixture
def failed(world: World) -> World:
    """A warehouse with a copy of staff in staging that failed its check."""
    world.at_source(
        "CREATE TABLE staff (id int PRIMARY KEY, ssn text)", "INSERT INTO staff VALUES (1, 'x')",
        "CREATE TABLE other (id int)",
    )  # fmt: skip
    with pytest.raises(CheckFailedError):
        world.run("name: public.staff" + NEVER)
    assert world.rows(STAGED) == [("staff",)]
    return world


@pytest.mark.parametrize(
    ("rule", "late", "reason"),
    [
        ("public.staff", timedelta(), ""),
        ("public.staff", timedelta(days=3, hours=1), "it is older than 3 days, 0:00:00"),
        ("public.other", timedelta(), "its table is not in the pipeline file any more"),
        ("name: public.staff\n    columns: {exclude: [ssn]}", timedelta(), "withholds ssn now"),
        ("name: public.staff\n    columns: {only: [id]}", timedelta(), "withholds ssn now"),
        ("name: public.staff\n    columns: {hash: [ssn]}", timedelta(), "withholds ssn now"),
    ],
)
def test_what_nobody_may_publish_is_useless(
    failed: World, rule: str, late: timedelta, reason: str
) -> None:
    pipeline = failed.pipeline(rule)
    with failed.job().connect() as connection:
        (one,) = kept.listed(connection, pipeline)
    found = kept.useless(one, pipeline, datetime.now(UTC) + late)
    assert reason in found
    assert bool(found) is bool(reason)


def test_a_run_removes_at_once_what_left_the_file(failed: World) -> None:
    failed.run("public.other")
    assert failed.rows(STAGED) == []
    assert failed.rows("SELECT count(*) FROM ops.staging") == [(0,)]


def test_what_was_not_filled_to_its_end_goes_and_what_others_hold_stays(failed: World) -> None:
    job = failed.job()
    with psycopg.connect(failed.warehouse_admin) as holder:
        holder.execute("UPDATE ops.staging SET load_id = NULL")
        holder.commit()
        holder.execute("LOCK TABLE raw_hr_staging.staff IN ACCESS SHARE MODE")
        assert run.clean(job, everything=True) == []
    (removed,) = run.clean(job, everything=False)
    assert (removed.table, removed.rows) == ("raw_hr.staff", None)
    assert removed.reason == "it was not filled to its end"


def test_clean_leaves_what_waits_for_publishing_unless_all_is_to_go(failed: World) -> None:
    (removed,) = run.clean(failed.job(), everything=False)
    assert (removed.rows, removed.reason) == (1, "it did not pass its checks")
    failed.run("public.staff")
    with psycopg.connect(failed.warehouse_admin) as reader:
        reader.execute("SELECT count(*) FROM raw_hr.staff")
        with pytest.raises(RunFailedError):
            failed.run("public.staff", head="publish: {wait: 0s}\n")
    with psycopg.connect(failed.warehouse_admin) as connection:
        connection.execute("CREATE TABLE raw_hr_staging.mine ()")
    job = failed.job("public.staff")
    assert run.clean(job, everything=False) == []
    assert len(run.clean(job, everything=True)) == 1
    assert failed.rows(STAGED) == [("mine",)]

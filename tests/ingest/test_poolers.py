"""Poolers that give a server's session to others after each transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from ingest import run
from ingest.connections import Entry
from ingest.errors import DatabaseError, RunFailedError
from ingest.job import Job
from tests.ingest.pooler import pooler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.ingest.pooler import Pooler
    from tests.ingest.world import World

TEXT = "name: public.t\n    load: incremental\n    deletes: detect"


def job(world: World, side: str, between: Pooler, text: str = TEXT) -> Job:
    """Return a run of which one connection is reached by the pooler."""

    def resolve(connection_id: str) -> Entry:
        if connection_id == side:
            direct = world.resolve(side).uri
            return Entry(side, "postgresql", between.uri(direct))
        return world.resolve(connection_id)

    return Job(world.pipeline(text), "hr", "one", resolve)


@pytest.fixture(params=["transaction", "session"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


def test_a_source_behind_one_is_read_right_and_its_sessions_stay_as_they_were(
    world: World, mode: str
) -> None:
    world.at_source(
        "CREATE TABLE t (id int PRIMARY KEY, f float8, at timestamptz, b bytea)",
        "INSERT INTO t SELECT n, 0.1 + 0.2, now(), 'x' FROM generate_series(1, 100) n",
    )
    names = "TimeZone", "extra_float_digits", "row_security", "search_path", "lock_timeout"
    with pooler(world.source, mode) as between:

        def settings() -> list[str]:
            with psycopg.connect(between.uri(world.source), autocommit=True) as application:
                rows = [application.execute(f"SHOW {name}".encode()).fetchone() for name in names]
            return [row[0] for row in rows if row]

        before = settings()
        run.run(job(world, "hr", between))
        world.assert_same("t", "raw_hr.t")
        world.at_source("DELETE FROM t WHERE id > 90", "UPDATE t SET f = 1 WHERE id = 1")
        run.run(job(world, "hr", between))
        world.assert_same("t", "raw_hr.t")
        for _ in range(8):
            assert settings() == before


def test_rows_hidden_by_a_policy_are_an_error_behind_one_too(world: World, mode: str) -> None:
    """On sessions that an application has used, which may have told them to hide rows."""
    world.at_source(
        "CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 9)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY three ON t TO ingest_reader USING (id <= 3)",
    )  # fmt: skip
    with pooler(world.source, mode) as between:
        with psycopg.connect(between.uri(world.source), autocommit=True) as application:
            application.execute("SET row_security = on")
            assert application.execute("SELECT count(*) FROM t").fetchone() == (3,)
        with pytest.raises(RunFailedError, match="would be affected by row-level security"):
            run.run(job(world, "hr", between))
        assert world.rows("SELECT to_regclass('raw_hr.t')") == [(None,)]
        world.at_source("DROP POLICY three ON t", "ALTER TABLE t DISABLE ROW LEVEL SECURITY")
        run.run(job(world, "hr", between))
    world.assert_same("t", "raw_hr.t")


def test_a_login_of_checks_behind_one_is_refused_by_name(world: World, mode: str) -> None:
    world.at_source("CREATE TABLE t (id int PRIMARY KEY)")
    check = '\n    checks: {sql: {some: "select count(*) = 0 from {table}"}}'
    with pooler(world.checks, mode) as between:
        work = job(world, "warehouse_checks", between, TEXT + check)
        if mode == "session":
            assert run.run(work).loaded
            return
        with pytest.raises(Failure, match="found a pooler that gives it to others") as failure:
            run.run(work)
    assert "Point connection warehouse_checks at PostgreSQL itself" in failure.value.hint


@pytest.mark.parametrize("size", [1, 8])
def test_a_warehouse_behind_one_is_refused_by_name(world: World, mode: str, size: int) -> None:
    world.at_source("CREATE TABLE t (id int PRIMARY KEY)")
    with pooler(world.warehouse, mode, size) as between:
        work = job(world, "warehouse", between)
        if mode == "session":
            run.run(work)
            return
        with pytest.raises(
            DatabaseError, match="found a pooler that gives it to others"
        ) as failure:
            run.run(work)
    assert "Point connection warehouse at PostgreSQL itself" in failure.value.hint

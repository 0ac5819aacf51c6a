"""A table that stays gets a full copy's rows, whatever it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest import merge, plan
from tests.ingest.tables import column, landings, pipeline, rule, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

NAMES = st.sampled_from([None, "", "a", "A", "b"])
KEYED = st.dictionaries(st.integers(1, 6), NAMES).map(lambda rows: [*rows.items()])
BAG = st.lists(st.tuples(st.integers(1, 3), NAMES), max_size=8)
ROWS = "SELECT id, name FROM {} ORDER BY id, name"


@pytest.fixture(scope="module")
def connection(postgres: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.create_database(), autocommit=True) as opened:
        opened.execute("CREATE SCHEMA raw_hr; CREATE SCHEMA raw_hr_staging")
        yield opened


@pytest.mark.parametrize("keyed", [True, False])
def test_filling_makes_the_rows_those_of_staging(
    connection: psycopg.Connection[Any], keyed: bool
) -> None:
    rows = KEYED if keyed else BAG
    key = ("id",) if keyed else ()
    planned = plan.build(
        pipeline(),
        rule(),
        table(column("id"), column("name", "text"), key=key),
        landings(),
        state=None,
    )

    for schema in ("raw_hr", "raw_hr_staging"):
        constraint = ", PRIMARY KEY (id)" if keyed else ""
        connection.execute(f"DROP TABLE IF EXISTS {schema}.staff")
        connection.execute(f"CREATE TABLE {schema}.staff (id int, name text{constraint})")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(old=rows, new=rows)
    def fills(old: list[tuple[int, str | None]], new: list[tuple[int, str | None]]) -> None:
        for schema, values in (("raw_hr", old), ("raw_hr_staging", new)):
            connection.execute(f"DELETE FROM {schema}.staff")
            with connection.cursor() as cursor:
                cursor.executemany(f"INSERT INTO {schema}.staff VALUES (%s, %s)", values)
        before = connection.execute("SELECT ctid, id, name FROM raw_hr.staff").fetchall()
        merge.fill(connection, planned)
        assert (
            connection.execute(ROWS.format("raw_hr.staff")).fetchall()
            == connection.execute(ROWS.format("raw_hr_staging.staff")).fetchall()
        )
        if keyed:
            left = {*connection.execute("SELECT ctid, id, name FROM raw_hr.staff").fetchall()}
            same = [row for row in before if (row[1], row[2]) in new]
            assert {*same} <= left, "what is the same is not written again"

    fills()


def test_two_rows_that_swap_a_unique_value_break_no_constraint(
    connection: psycopg.Connection[Any],
) -> None:
    for schema, names in (("raw_hr", "ab"), ("raw_hr_staging", "ba")):
        connection.execute(f"DROP TABLE IF EXISTS {schema}.staff")
        connection.execute(f"CREATE TABLE {schema}.staff (id int PRIMARY KEY, name text UNIQUE)")
        for place, name in enumerate(names):
            connection.execute(f"INSERT INTO {schema}.staff VALUES (%s, %s)", [place, name])
    shape = table(column("id"), column("name", "text"))
    merge.fill(connection, plan.build(pipeline(), rule(), shape, landings(), state=None))
    assert connection.execute(ROWS.format("raw_hr.staff")).fetchall() == [(0, "b"), (1, "a")]

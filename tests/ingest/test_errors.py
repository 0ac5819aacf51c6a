"""What PostgreSQL says reaches people without the values of rows."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from ingest.errors import from_postgres

if TYPE_CHECKING:
    from tests.ingest.world import World

STAFF = (
    "CREATE TABLE staff (id int PRIMARY KEY, ssn text, updated_at timestamptz DEFAULT now())",
    "INSERT INTO staff SELECT n, 'S3-' || n FROM generate_series(1, 3) n",
)
RAISED = """
    CREATE FUNCTION raised(text) RETURNS text LANGUAGE plpgsql AS
      $$ BEGIN RAISE 'no such %', $1 USING ERRCODE = '{code}'; END $$
"""
MERGED = "name: public.staff\n    load: incremental\n    cursor: updated_at"


@pytest.mark.parametrize(
    ("source", "warehouse", "text", "expected"),
    [
        ("CREATE VIEW v AS SELECT id, ssn::int AS n FROM staff", "", "public.v",
         "source hr: table public.v: expected it to be read, found: invalid text representation"),
        ("CREATE VIEW v AS SELECT ssn::regclass AS n FROM staff", "", "public.v",
         "undefined table (42P01)"),
        (f"{RAISED.format(code='P0001')}; CREATE VIEW v AS SELECT raised(ssn) FROM staff", "",
         "public.v", "raise exception (P0001)"),
        (f"{RAISED.format(code='23505')}; CREATE VIEW v AS SELECT raised(ssn) FROM staff", "",
         "public.v", "unique violation (23505)"),
        ("UPDATE staff SET ssn = 'S3-1', updated_at = now()",
         "CREATE UNIQUE INDEX by_hand ON raw_hr.staff (ssn)", MERGED,
         'violates unique constraint "by_hand"'),
        ("UPDATE staff SET ssn = 'S3-99', updated_at = now()",
         "ALTER TABLE raw_hr.staff ADD CONSTRAINT short CHECK (ssn <> 'S3-99')", MERGED,
         'violates check constraint "short"'),
        ("UPDATE staff SET ssn = 'S3-1'", "", "name: public.staff\n    key: [id]\n"
         "    checks: {unique: [[ssn]], accepted: {ssn: [none]}}", "(for example (1), (2), (3))"),
    ],
)  # fmt: skip
def test_no_value_of_a_row_is_in_an_error_its_causes_ops_or_the_log(
    world: World,
    caplog: pytest.LogCaptureFixture,
    source: str,
    warehouse: str,
    text: str,
    expected: str,
) -> None:
    world.at_source(*STAFF)
    world.run(MERGED)
    world.at_source(source)
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute(warehouse.encode())
    with pytest.raises(Failure) as failure:
        world.run(text)
    assert expected in failure.value.message
    ops = world.rows("SELECT t.error, c.* FROM ops.tables t LEFT JOIN ops.checks c USING (run_id)")
    # Of the causes as a log shows them, but for the lines of this test's own code.
    causes: list[BaseException | None] = [failure.value]
    while causes[-1] is not None:
        causes.append(causes[-1].__cause__ or causes[-1].__context__)
    said = "".join(traceback.format_exception_only(each)[0] for each in causes if each)
    assert "S3-" not in failure.value.message + said + str(ops) + caplog.text


def test_a_key_of_any_length_is_cut(world: World) -> None:
    world.at_source(
        "CREATE TABLE staff (badge text, n int)",
        "INSERT INTO staff SELECT repeat('k', 5000), 1 FROM generate_series(1, 2)",
    )
    with pytest.raises(Failure, match="keys that come more than once") as failure:
        world.run("name: public.staff\n    load: incremental\n    key: [badge]")
    assert 90 < failure.value.message.count("k") < 200


@pytest.mark.parametrize("value", ["x", "x, line 9, column leak", "x\nCOPY t, line 9, column leak"])
def test_the_column_of_a_copy_is_named_and_its_value_is_not(world: World, value: str) -> None:
    with psycopg.connect(world.warehouse_admin, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE t (a text, amount int)")
        with (
            pytest.raises(psycopg.DataError) as error,
            connection.cursor().copy("COPY t FROM STDIN (FORMAT csv)") as copy,
        ):
            copy.write(f'a,1\nb,"{value}"\n')
        found = from_postgres(error.value, side="warehouse", table="raw_hr.t")
    assert "table raw_hr.t, column amount, row " in found.message
    assert "leak" not in f"{found}{error.value}"

"""``ingest try``: a sample at a desk, which no run goes on from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
from typer.testing import CliRunner

from ingest import cli

if TYPE_CHECKING:
    from typer.testing import Result

    from tests.ingest.world import World

pytestmark = pytest.mark.programs

STAFF = """name: public.staff
    load: incremental
    columns: {exclude: [photo], hash: [national_id]}
    checks:
      rows: {min: 1000}
      nulls: {name: 0%}
      unique: [[id]]
      freshness: {column: hired_on, max_age: 1h}
      sql: {all_there: "select count(*) = 50 from {table}"}
"""


def ingest(world: World, *words: str) -> Result:
    named = {"HR": world.source, "WAREHOUSE": world.warehouse, "WAREHOUSE_CHECKS": world.checks}
    environ = {f"AIRFLOW_CONN_{name}": uri for name, uri in named.items()}
    return CliRunner().invoke(cli.app, words, env=environ | {"COLUMNS": "120"})


def test_a_sample_lands_as_the_file_says_and_is_shown(world: World) -> None:
    world.at_source(
        "CREATE TABLE staff (id integer PRIMARY KEY, name text, national_id text, photo bytea,"
        " hired_on timestamptz)",
        "INSERT INTO staff SELECT n, '[bold]' || n, 'G' || n, 'p', '2020-01-01'"
        " FROM generate_series(1, 50) AS n",
        "CREATE VIEW names AS SELECT name FROM staff",
    )
    file = str(world.file(STAFF, "public.names"))
    for _ in range(2):  # it can be asked for again
        done = ingest(world, "try", file, "--rows", "7", "--json")
        assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    tables = {each["table"]: each for each in said["tables"]}
    assert {name: each["rows"] for name, each in tables.items()} == {
        "raw_hr.staff": 7, "raw_hr.names": 7,
    }  # fmt: skip
    staff = {each["name"]: each for each in tables["raw_hr.staff"]["columns"]}
    assert list(staff) == ["id", "name", "national_id", "hired_on"]
    assert [name for name, each in staff.items() if each["hashed"]] == ["national_id"]
    assert len(staff["name"]["first"]) == 5
    assert not set(staff["national_id"]["first"]) & {f"G{n}" for n in range(51)}
    assert tables["raw_hr.staff"]["left_out"] == ["photo"]
    assert said["not_asked"] == ["freshness", "rows", "sql all_there"]
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(7,)]
    assert world.source_rows("SELECT count(*) FROM staff") == [(50,)]

    shown = ingest(world, "try", file, "--table", "staff", "--rows", "7").stdout
    assert "raw_hr.staff: 7 rows" in shown
    assert "photo         left out" in shown
    assert "[bold]1" in shown
    assert "not asked of a sample: freshness, rows, sql all_there" in shown


def test_samples_and_runs_do_not_mix(world: World) -> None:
    world.at_source("CREATE TABLE staff (id integer PRIMARY KEY)", "INSERT INTO staff VALUES (1)")
    file = str(world.file("public.staff"))
    assert ingest(world, "try", file).exit_code == 0
    refused = ingest(world, "run", file)
    assert refused.exit_code == 1
    assert "found those of try_hr" in refused.stderr
    assert "HINT: Samples and runs do not mix: name another database" in refused.stderr
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("DROP SCHEMA raw_hr CASCADE")
    assert ingest(world, "run", file).exit_code == 0
    refused = ingest(world, "try", file)
    assert refused.exit_code == 1
    assert "HINT: Samples and runs do not mix" in refused.stderr


def test_a_row_that_fails_its_check_is_told_of_a_sample_too(world: World) -> None:
    world.at_source("CREATE TABLE staff (id integer PRIMARY KEY, name text)",
                    "INSERT INTO staff VALUES (1, NULL)")  # fmt: skip
    file = str(world.file("name: public.staff\n    checks: {nulls: {name: 0%}}"))
    done = ingest(world, "try", file)
    assert done.exit_code == 1
    assert "nulls" in done.stderr

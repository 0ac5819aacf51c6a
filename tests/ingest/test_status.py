"""How a pipeline stands, and how its state is forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest

from ingest.errors import RunFailedError
from tests.ingest.test_main import ingest

if TYPE_CHECKING:
    from tests.ingest.world import World

RULES = (
    "name: public.merged\n    load: incremental", "name: public.added\n    load: append\n"
    "    cursor: id", "public.lost",
)  # fmt: skip


def set_up(world: World) -> dict[str, str]:
    world.at_source(
        "CREATE TABLE merged (id int PRIMARY KEY)", "INSERT INTO merged VALUES (1), (2)",
        "CREATE TABLE added (id int PRIMARY KEY)", "INSERT INTO added VALUES (1), (2)",
    )  # fmt: skip
    return {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}


def test_status_shows_the_last_run_and_each_table(world: World) -> None:
    environment = set_up(world)
    file = world.file(*RULES)
    before = ingest("status", file, **environment)
    assert (before.returncode, before.stdout) == (0, "pipeline hr has not run yet\n")
    with pytest.raises(RunFailedError, match=r"expected public\.lost, found no such table"):
        world.run(*RULES)
    done = ingest("status", file, **environment)
    assert done.returncode == 0, done.stderr
    assert ": failed, began 20" in done.stdout
    assert "found no such table\nHINT: Mend the name in the pipeline file" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("raw_hr.")]
    assert [(row[0], row[1], row[-1]) for row in rows if row[0] != "raw_hr.lost"] == [
        ("raw_hr.added", "2", "published"), ("raw_hr.merged", "2", "published"),
    ]  # fmt: skip
    found = json.loads(ingest("status", file, "--json", **environment).stdout)
    assert found["run"]["status"] == "failed"
    states = {each["table"]: (each["rows"], each["cursor_value"], each["last"], each["waiting"])
              for each in found["tables"]}  # fmt: skip
    assert states == {
        "raw_hr.added": (2, "2", "published", False), "raw_hr.lost": (None, None, "failed", False),
        "raw_hr.merged": (2, None, "published", False),
    }  # fmt: skip


def test_reset_loads_whole_tables_again_and_an_append_keeps_what_it_has(world: World) -> None:
    environment = set_up(world)
    rules = RULES[:2]
    world.run(*rules)
    world.at_source("DELETE FROM added WHERE id = 1", "INSERT INTO added VALUES (0)")
    assert {each.load for each in world.run(*rules).loaded} == {"append", "incremental"}
    done = ingest(
        "reset", world.file(*rules), "--table", "merged", "--table", "added", **environment
    )
    assert done.stdout == (
        "raw_hr.added: reads all rows again next time\nraw_hr.merged: is loaded whole next time\n"
    ), done.stderr
    loaded = {each.table: each.load for each in world.run(*rules).loaded}
    assert loaded == {"raw_hr.added": "append", "raw_hr.merged": "full"}
    assert world.rows("SELECT id FROM raw_hr.added ORDER BY 1") == [(0,), (1,), (2,)]
    assert world.run(*rules).loaded[1].load == "incremental"
    nothing = ingest("reset", world.file(*rules), "--table", "other", **environment)
    assert (nothing.returncode, "found none of that name" in nothing.stderr) == (3, True)


def test_reset_makes_the_tables_of_a_renamed_file_its_own(world: World) -> None:
    environment = set_up(world)
    world.run("public.merged")
    renamed = world.folder / "people.yaml"
    renamed.write_text(world.file("public.merged").read_text())
    refused = ingest("run", renamed, **environment)
    assert refused.returncode == 1
    assert "expected tables of the pipeline people alone" in refused.stderr
    assert ingest("reset", renamed, **environment).returncode == 0
    assert ingest("run", renamed, **environment).returncode == 0
    with psycopg.connect(world.warehouse_admin) as connection:
        owners = connection.execute("SELECT DISTINCT pipeline FROM ops.state").fetchall()
    assert owners == [("people",)]


def test_ops_keeps_400_days_of_runs_and_the_state(world: World) -> None:
    set_up(world)
    world.run("public.merged")
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute(
            "UPDATE ops.runs SET started_at = now() - interval '401 days';"
            "UPDATE ops.tables SET started_at = now() - interval '401 days';"
            "UPDATE ops.checks SET checked_at = now() - interval '401 days'"
        )
    world.run("public.merged")
    for table in ("runs", "tables", "state"):
        assert world.rows(f"SELECT count(*) FROM ops.{table}") == [(1,)]
    assert world.rows("SELECT count(*) > 0, bool_and(checked_at > now() - interval '1 day')"
                      " FROM ops.checks") == [(True, True)]  # fmt: skip

"""The command, started as a user starts it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg

from tests import forked

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.ingest.world import World


def ingest(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.run("ingest", *map(str, arguments), env=os.environ | environment)


def test_check_tells_sound_files_from_broken_ones(world: World) -> None:
    sound, broken = world.file(), world.folder / "broken.yaml"
    broken.write_text("source: hr\n")
    assert ingest("check", sound).returncode == 0
    done = ingest("check", sound, broken)
    assert done.returncode == 1
    assert done.stdout == f"{sound}: sound\n"
    assert f"{broken}:1: tables: expected this key, found none\n" in done.stderr
    assert "HINT: " in done.stderr


def test_check_refuses_two_files_that_publish_into_one_schema(world: World) -> None:
    first = world.file()
    second = world.folder / "staff.yaml"
    second.write_text(first.read_text())
    done = ingest("check", first, second)
    assert done.returncode == 1
    assert done.stdout == f"{first}: sound\n"
    told = f"expected a schema of the pipeline's own, found raw_hr, as in {first}"
    assert f"{second}:2: schema: {told}\n" in done.stderr
    (fault,) = json.loads(ingest("check", first, second, "--json").stdout)
    assert (fault["file"], fault["line"], fault["message"]) == (str(second), 2, told)


def test_run_prints_json_that_agrees_with_the_warehouse(world: World) -> None:
    world.at_source("CREATE TABLE a (id int)", "INSERT INTO a SELECT generate_series(1, 7)")
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    done = ingest("run", world.file(), "--json", **environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["error"] is None
    assert [(table["table"], table["rows"]) for table in result["tables"]] == [("raw_hr.a", 7)]
    assert world.rows('SELECT pipeline, "table", rows, run_id FROM ops.tables') == [
        ("hr", "raw_hr.a", 7, result["run_id"])
    ]
    piped = ingest("run", world.file(), "--table", "a", **environment)
    assert piped.stdout.startswith("raw_hr.a\tfull\t7\t+7 -7\t")
    assert piped.stdout.count("\n") == 1


def test_run_shows_a_table_at_a_terminal(world: World) -> None:
    world.at_source("CREATE TABLE a (id int)", "INSERT INTO a SELECT generate_series(1, 7)")
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "run", world.file()],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        env=os.environ
        | {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
        | {"TERM": "dumb", "COLUMNS": "80"},
    )
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 0
    assert re.search(r"table +load +rows +changed +time", shown)
    assert re.search(r"raw_hr\.a +full +7 +\+7 ", shown)


def test_exit_codes_and_errors(world: World) -> None:
    world.at_source("CREATE TABLE a (id int)")
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    wrong = ingest("run", world.file(), "--table", "b", **environment)
    assert (wrong.returncode, "expected one of public.a, found b" in wrong.stderr) == (2, True)
    failed = ingest("run", world.file("public.b"), "--json", **environment)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["failed"] == {
        "raw_hr.b": {
            "error": "source hr: expected public.b, found no such table",
            "hint": "Mend the name in the pipeline file; views are loaded only if named.",
        }
    }
    assert "Traceback" not in failed.stderr
    assert ingest("run", world.folder / "none.yaml").returncode == 2


def test_plan_tells_what_a_run_would_do_and_changes_nothing(world: World) -> None:
    world.at_source(
        "CREATE TABLE a (id int PRIMARY KEY, at timestamptz, page xml)",
        "INSERT INTO a VALUES (1, '2026-01-01', '<a/>')",
        "ANALYZE a",
    )
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    file = world.file("name: public.a\n    load: incremental\n    cursor: at")
    done = ingest("plan", file, "--json", **environment)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["tables"]
    assert (found["load"], found["reason"], found["rows"]) == ("full", "first load", 1)
    assert (found["format"], found["why_text"]) == ("text", "column page (xml)")
    assert found["unseen"] == ["deletes"]
    assert world.rows("SELECT to_regnamespace('ops'), to_regnamespace('raw_hr')") == [(None, None)]
    detecting = world.file(
        "name: public.a\n    load: incremental\n    cursor: at\n    deletes: mark"
    )
    (found,) = json.loads(ingest("plan", detecting, "--json", **environment).stdout)["tables"]
    assert found["unseen"] == []
    file = world.file("name: public.a\n    load: incremental\n    cursor: at")
    ingest("run", file, **environment)
    (found,) = json.loads(ingest("plan", file, "--json", **environment).stdout)["tables"]
    assert found["reason"] == "rows that were written since the last load"
    assert found["where"].startswith("pg_catalog.age(xmin) <= ")
    assert found["where"].endswith("::pg_catalog.xid))")
    assert "incremental" in ingest("plan", file, **environment).stdout


def test_what_a_pattern_leaves_out_is_said_and_is_loaded_by_its_name(world: World) -> None:
    world.at_source(
        *(f"CREATE TABLE {name} (id int PRIMARY KEY)" for name in ("a", "b", "c")),
        "CREATE VIEW seen AS SELECT 1 AS id", "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id",
        "CREATE EXTENSION file_fdw", "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw",
        "CREATE FOREIGN TABLE far (id int) SERVER files OPTIONS (program 'seq 3')",
    )  # fmt: skip
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    said = "a pattern means tables, which leaves out {}public.kept (a materialised view), "
    plan = ingest("plan", world.file(), **environment)
    every = said.format("public.far (a foreign table), ") + "public.seen (a view)"
    assert every in plan.stdout
    done = ingest("run", world.file(), **environment)
    assert done.stderr.count(every) == 1
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [
        "raw_hr.a", "raw_hr.b", "raw_hr.c",
    ]  # fmt: skip
    named = world.file("public.*", "public.far")
    found = json.loads(ingest("plan", named, "--json", **environment).stdout)
    assert found["left_out"] == {"public.kept": "a materialised view", "public.seen": "a view"}
    some = ingest("run", named, "--table", "far", "--table", "raw_hr.c", **environment)
    assert "leaves out" not in some.stderr
    assert [line.split("\t")[:3:2] for line in some.stdout.splitlines()] == [
        ["raw_hr.c", "0"], ["raw_hr.far", "3"],
    ]  # fmt: skip


def test_init_writes_a_file_that_check_and_run_take(world: World) -> None:
    world.at_source(
        'CREATE TABLE "Odd ""one"" #" (id int)',
        "CREATE TABLE big (id int PRIMARY KEY, modified_at timestamp(3))",
        "INSERT INTO big SELECT n, '2026-01-01' FROM generate_series(1, 60000) n",
        "ANALYZE big",
    )
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    file = world.folder / "made.yaml"
    done = ingest("init", "hr", "--output", file, **environment)
    assert done.returncode == 0, done.stderr
    assert ingest("check", file).returncode == 0
    assert ingest("run", file, **environment).returncode == 0
    text = file.read_text()
    assert "  - name: public.big\n    load: incremental\n    deletes: detect" in text
    assert ingest("init", "hr", **environment).stdout == text
    again = ingest("init", "hr", "--output", file, **environment)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    none = ingest("init", "hr", "--schema", "nope", **environment)
    assert (none.returncode, "expected tables in nope, found none" in none.stderr) == (1, True)


def test_what_a_reader_keeps_back_is_published_or_cleaned_later(world: World) -> None:
    world.at_source("CREATE TABLE a (id int)", "INSERT INTO a SELECT generate_series(1, 7)")
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    file = world.file(head="publish: {wait: 0s}\n")
    assert ingest("run", file, **environment).returncode == 0
    with psycopg.connect(world.warehouse_admin) as reader:
        reader.execute("SELECT count(*) FROM raw_hr.a")
        done = ingest("run", file, **environment)
        assert (done.returncode, "`ingest publish FILE`" in done.stderr) == (1, True)
        kept = ingest("publish", file, "--json", **environment)
        assert (kept.returncode, list(json.loads(kept.stdout)["failed"])) == (1, ["raw_hr.a"])
    done = ingest("publish", file, "--table", "a", "--json", **environment)
    assert [table["rows"] for table in json.loads(done.stdout)["tables"]] == [7]
    again = ingest("publish", file, **environment)
    assert (again.returncode, "There is nothing to do" in again.stderr) == (3, True)
    assert ingest("clean", file, **environment).stdout == "nothing was left over in staging\n"
    with psycopg.connect(world.warehouse_admin) as reader:
        reader.execute("SELECT count(*) FROM raw_hr.a")
        ingest("run", file, **environment)
    assert "raw_hr.a: removed from staging, 7 rows, of" in (
        ingest("clean", file, "--all", **environment).stdout
    )
    assert ingest("clean", file, "--json", **environment).stdout == "[]\n"


def test_run_takes_an_interval_only_whole(world: World) -> None:
    done = ingest("run", world.file(), "--since", "2026-01-01")
    assert (done.returncode, "--since and --until go together" in done.stderr) == (2, True)


def test_no_connection_is_wrong_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_HR", raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE", raising=False)
    done = ingest("run", world.file())
    assert done.returncode == 2
    assert "HINT: export AIRFLOW_CONN_WAREHOUSE=" in done.stderr


def test_schema_prints_json() -> None:
    assert json.loads(ingest("schema").stdout)["title"] == "Harmattan pipeline file"


def test_the_package_never_imports_airflow_by_itself(tmp_path: Path) -> None:
    code = "import sys, ingest.cli; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0

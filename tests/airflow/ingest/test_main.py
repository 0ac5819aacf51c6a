"""The command, started as a user starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.airflow.ingest.conftest import World


def ingest(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ingest", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )


def test_check_tells_sound_files_from_broken_ones(world: World) -> None:
    sound, broken = world.file(), world.folder / "broken.yaml"
    broken.write_text("source: hr\n")
    assert ingest("check", sound).returncode == 0
    done = ingest("check", sound, broken)
    assert done.returncode == 1
    assert done.stdout == f"{sound}: sound\n"
    assert f"{broken}:1: tables: expected this key, found none\n" in done.stderr
    assert "HINT: " in done.stderr


def test_run_prints_json_that_agrees_with_the_warehouse(world: World) -> None:
    world.at_source("CREATE TABLE a (id int)", "INSERT INTO a SELECT generate_series(1, 7)")
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    done = ingest("run", world.file(), "--json", **environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["error"] is None
    assert [(table["table"], table["rows"]) for table in result["tables"]] == [("raw_hr.a", 7)]
    assert world.rows('SELECT pipeline, "table", rows, run_id FROM ops.loads') == [
        ("hr", "raw_hr.a", 7, result["run_id"])
    ]
    plain = ingest("run", world.file(), "--table", "a", **environment)
    assert plain.stdout.startswith("raw_hr.a: 7 rows in ")


def test_exit_codes_and_errors(world: World) -> None:
    world.at_source("CREATE TABLE a (id int)")
    environment = {"AIRFLOW_CONN_HR": world.source, "AIRFLOW_CONN_WAREHOUSE": world.warehouse}
    wrong = ingest("run", world.file(), "--table", "b", **environment)
    assert (wrong.returncode, "expected one of public.a, found b" in wrong.stderr) == (2, True)
    failed = ingest("run", world.file("public.b"), "--json", **environment)
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["error"] == "source hr: expected public.b, found no such table"
    assert "Traceback" not in failed.stderr
    assert ingest("run", world.folder / "none.yaml").returncode == 2


def test_no_connection_is_a_clear_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_HR", raising=False)
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE", raising=False)
    done = ingest("run", world.file())
    assert done.returncode == 1
    assert "HINT: export AIRFLOW_CONN_WAREHOUSE=" in done.stderr


def test_schema_prints_json() -> None:
    assert json.loads(ingest("schema").stdout)["title"] == "Harmattan pipeline file"


def test_the_package_never_imports_airflow_by_itself(tmp_path: Path) -> None:
    code = "import sys, ingest.__main__; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path).returncode == 0

"""The template's loads by dlt: an API, files and a MariaDB, into PostgreSQL and DuckDB."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from tests.airflow.harmattan.running import running
from tests.airflow.loading import TEMPLATE, Library, Warehouse, image_settings, load, sheet
from tests.http_server import Answer, HttpServer, http_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.mariadb import MariaDb

pytestmark = pytest.mark.programs


def test_an_api_is_read_page_by_page_through_its_troubles_and_then_only_what_is_new(
    library: tuple[Library, HttpServer],
    warehouse: Warehouse,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    service, server = library
    for number in range(5):
        service.lend(number, number)
    service.trouble = [Answer(429, headers={"Retry-After": "1"}), Answer(500)]
    before = time.monotonic()
    assert load("library") == {"loans": 5}
    assert time.monotonic() - before > 1
    assert len(server.requests) == 2 + 3  # two in trouble, three pages
    service.lend(1, 30)
    service.lend(5, 31)
    server.requests.clear()
    assert load("library") == {"loans": 2}  # the newest of before came again, and was known
    assert len(server.requests) == 2
    assert "updated_since=2026-10-01T08%3A04%3A00Z" in server.requests[0].path
    found = warehouse.rows("SELECT id, extract(minute FROM updated_at) FROM load_library.loans")
    assert sorted(found) == [(0, 0), (1, 30), (2, 2), (3, 3), (4, 4), (5, 31)]

    service.lend(6, 40, shelf="B2")
    with pytest.raises(Failure, match=r"table loans, column shelf: the contract columns: freeze"):
        load("library")
    assert len(warehouse.rows("SELECT FROM load_library.loans")) == 6

    import dlt

    assert "updated_since" in caplog.text  # what requests says of itself is looked at, too
    said = f"{caplog.text} {capfd.readouterr()} {pickle.dumps(dlt.pipeline().last_trace)!r}"
    for secret in (service.token, warehouse.password):
        assert secret not in said
        assert secret not in warehouse.everything("load_library")
    # It ends as it began, and a token that is refused is said, and not repeated.
    assert not list(Path(tempfile.gettempdir()).glob("load-library-*"))
    token, service.token = service.token, "another"
    with pytest.raises(Failure, match=r"/loans answered 401") as refused:
        load("library")
    assert token not in f"{refused.value!r} {refused.value.hint} {caplog.text}"


def test_files_replace_or_append_and_what_a_contract_discards_is_said(
    connect: Callable[..., None],
    warehouse: Warehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    connect()
    caplog.set_level(logging.INFO)
    from loads.pipelines import lists

    assert lists.run() == {"term_dates": 6}
    monkeypatch.setattr(lists, "FILES", tmp_path)
    terms = tmp_path / "term_dates.csv"
    terms.write_text("academic_year,term,starts_on,ends_on\n2026/2027,1,2026-09-08,\n")
    sheet(tmp_path / "attendance/2026-10-01.xlsx", (date(2026, 10, 1), "1A", 30))
    assert lists.run() == {"attendance": 1, "term_dates": 1}
    assert warehouse.rows("SELECT term, starts_on, ends_on FROM load_lists.term_dates") == [
        (1, date(2026, 9, 8), None)
    ]

    sheet(
        tmp_path / "attendance/2026-10-02.xlsx",
        (date(2026, 10, 2), "1A", 29, "windy"),
        (date(2026, 10, 2), "1B", "nobody", None),
        header=("day", "form", "present", "Weather"),
    )
    caplog.clear()
    assert lists.run() == {"attendance": 1, "term_dates": 1}
    assert "table attendance: 1 rows discarded by its contract" in caplog.text
    assert "table attendance: values of Weather discarded" in caplog.text
    assert "nobody" not in caplog.text
    assert warehouse.rows("SELECT file, present FROM load_lists.attendance ORDER BY 1") == [
        ("attendance/2026-10-01.xlsx", 30),
        ("attendance/2026-10-02.xlsx", 29),
    ]
    sheet(tmp_path / "attendance/2026-10-01.xlsx", (date(2026, 10, 1), "1A", 31))
    with pytest.raises(Failure, match=r"2026-10-01\.xlsx: expected it as it was loaded"):
        lists.run()


def test_a_mariadb_table_is_merged_by_what_changed(
    connect: Callable[..., None], mariadb: MariaDb, warehouse: Warehouse
) -> None:
    connect(moodle=mariadb.uri)
    mariadb.execute(
        "CREATE TABLE moodle.mdl_quiz_attempts (id bigint PRIMARY KEY, quiz bigint, userid bigint,"
        " attempt int, state varchar(16), sumgrades decimal(10,5), timemodified bigint)",
        "INSERT INTO moodle.mdl_quiz_attempts SELECT seq, 7, 1000 + seq, 1, 'finished',"
        " seq / 4, 1790000000 + seq * 10000 FROM moodle.seq_1_to_20",
    )
    assert load("moodle") == {"quiz_attempts": 20}
    mariadb.execute(
        "UPDATE moodle.mdl_quiz_attempts SET state = 'überfällig', timemodified = 1790300000"
        " WHERE id = 3",
        # It committed late, behind the newest, and within what is read again.
        "INSERT INTO moodle.mdl_quiz_attempts VALUES (21, 7, 1, 1, 'finished', 1.25, 1790199000)",
    )
    assert load("moodle") == {"quiz_attempts": 3}
    assert warehouse.rows("SELECT count(*), sum(sumgrades) FROM load_moodle.quiz_attempts") == [
        (21, 210 / 4 + 1.25)
    ]
    assert warehouse.rows("SELECT state FROM load_moodle.quiz_attempts WHERE id = 3") == [
        ("überfällig",)
    ]
    columns = warehouse.rows(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = 'load_moodle' AND table_name = 'quiz_attempts'"
    )
    assert ("userid",) not in columns
    mariadb.execute("ALTER USER analysts@'127.0.0.1' IDENTIFIED BY 'changed'")
    with pytest.raises(Failure, match="the database refused: OperationalError, code 1045"):
        load("moodle")


def test_the_dag_loads_and_its_asset_says_how_much(
    library: tuple[Library, HttpServer],
    warehouse: Warehouse,
    metadata_database: Callable[[], str],
    tmp_path: Path,
) -> None:
    service, server = library
    service.lend(200, 59)
    bundle = tmp_path / "bundle"
    ignore = shutil.ignore_patterns("__pycache__", ".*_cache", "models*", "school_report*")
    shutil.copytree(TEMPLATE, bundle, ignore=ignore)
    metadata = metadata_database()
    hidden = {service.token, warehouse.password}
    with running(tmp_path, bundle, metadata, hidden, **image_settings()) as airflow:
        done = airflow.run(
            "load_library",
            AIRFLOW_CONN_WAREHOUSE=warehouse.uri,
            AIRFLOW_CONN_LIBRARY=f"http://:{service.token}@{server.address}/",
        )
        assert done.state == "success", done.output
        assert airflow.rows("SELECT extra FROM asset_event") == [({"loans": 1},)]
        dump = airflow.dump()
        assert not [secret for secret in hidden if secret in dump]


def test_at_a_desk_one_variable_loads_into_duckdb_and_nothing_is_reported(tmp_path: Path) -> None:
    with http_server() as makers:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DESTINATION_TYPE": "duckdb",
            "DLT_LOCAL_DIR": str(tmp_path),
            "RUNTIME__DLTHUB_TELEMETRY_ENDPOINT": makers.url,
        }

        def desk(**more: str) -> str:
            return subprocess.run(
                [sys.executable, "-m", "loads.pipelines.lists"],
                cwd=TEMPLATE, env={**environment, **more}, check=True, capture_output=True,
                text=True, timeout=60,
            ).stdout  # fmt: skip

        assert desk() == "{'term_dates': 6}\n"
        assert makers.requests == []
        desk(RUNTIME__DLTHUB_TELEMETRY="true")
        assert makers.requests  # so that it would have been seen
    import duckdb

    with duckdb.connect(tmp_path / "lists.duckdb") as connection:
        assert connection.execute("SELECT count(*) FROM load_lists.term_dates").fetchone() == (6,)


def test_a_desk_has_the_settings_of_the_image() -> None:
    desk = tomllib.loads((TEMPLATE / ".dlt/config.toml").read_text())
    assert image_settings() == {
        f"{section}__{name}".upper(): str(value).lower()
        for section, values in desk.items()
        for name, value in values.items()
    }

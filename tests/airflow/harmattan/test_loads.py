"""Loads by dlt: what a kill, a contract and a refusal leave behind, in a real warehouse."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from frame.failure import Failure
from tests.airflow.loading import TEMPLATE, Library, Warehouse, load, sheet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.http_server import HttpServer


pytestmark = pytest.mark.programs

RUN = "import sys; sys.path.insert(0, sys.argv[1]); from loads.pipelines import {}; {}.run()"


def test_a_run_that_is_killed_loses_nothing_and_doubles_nothing(
    library: tuple[Library, HttpServer],
    warehouse: Warehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, _ = library
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    from loads.pipelines import lists

    monkeypatch.setattr(lists, "FILES", tmp_path / "files")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/term_dates.csv").write_text("academic_year,term\n2026/2027,1\n")
    sheet(tmp_path / "files/attendance/a.xlsx", (date(2026, 11, 1), "9A", 1))
    service.lend(100, 50)
    lists.run()
    load("library")
    service.lend(101, 51)
    sheet(tmp_path / "files/attendance/b.xlsx", (date(2026, 11, 2), "9A", 2))
    files = f"lists.FILES = lists.Path({str(tmp_path / 'files')!r}); lists"
    # The one is killed before its rows arrive, the other after that and before it is complete.
    with (
        held(warehouse, "load_library_staging.loans", "load_lists._dlt_loads"),
        child(RUN.format("library", "library"), tmp_path) as before,
        child(RUN.format("lists", files), tmp_path) as after,
    ):
        wait_for(lambda: len(waiting(warehouse)) == 2)
        with pytest.raises(Failure, match=r"load_lists\.lists: expected to be alone"):
            lists.run()
        before.kill()
        after.kill()
        assert service.token not in "".join(each.read_text("latin-1") for each in left(tmp_path))
        wait_for(lambda: not sessions(warehouse))
    assert warehouse.rows(ATTENDED) == [(1,), (2,)]
    service.lend(102, 52)
    sheet(tmp_path / "files/attendance/c.xlsx", (date(2026, 11, 3), "9A", 3))
    assert load("library")["loans"] == 2
    assert lists.run()["attendance"] == 2
    assert warehouse.rows(ATTENDED) == [(1,), (2,), (3,)]
    found = warehouse.rows("SELECT id FROM load_library.loans WHERE id >= 100 ORDER BY 1")
    assert found == [(100,), (101,), (102,)]
    assert list(left(tmp_path)) == []


ATTENDED = "SELECT present FROM load_lists.attendance WHERE form = '9A' ORDER BY 1"


@contextmanager
def held(warehouse: Warehouse, *tables: str) -> Iterator[None]:
    """Let nobody write to ``tables``."""
    with psycopg.connect(warehouse.admin) as connection:
        for table in tables:
            connection.execute(f"LOCK TABLE {table} IN SHARE MODE".encode())
        yield


@contextmanager
def child(code: str, scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, TEMPLATE],
        env={**os.environ, "TMPDIR": str(scratch), "AIRFLOW_HOME": str(scratch / "airflow")},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def left(scratch: Path) -> Iterator[Path]:
    return (file for file in scratch.glob("load-*/**/*") if file.is_file())


def sessions(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    role = warehouse.uri.split("/")[2].partition(":")[0]
    return warehouse.rows(f"SELECT wait_event_type FROM pg_stat_activity WHERE usename = '{role}'")


def waiting(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return [row for row in sessions(warehouse) if row == ("Lock",)]


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# What is there after a row with a new column, and how many rows of that run came through.
NEW_COLUMN = {
    "evolve": ("SELECT id, new FROM {}", [(1, None), (2, "x")], 1),
    "discard_row": ("SELECT id FROM {}", [(1,)], 0),
    "discard_value": ("SELECT id FROM {}", [(1,), (2,)], 1),
    "freeze": ("SELECT id FROM {}", [(1,)], -1),
}


@pytest.mark.parametrize("mode", NEW_COLUMN)
def test_a_new_column_does_what_the_contract_says(
    connect: Callable[..., None], warehouse: Warehouse, mode: str
) -> None:
    connect()
    import dlt

    from harmattan.loads import load as run

    query, expected, came = NEW_COLUMN[mode]

    def source(*rows: dict[str, Any]) -> Any:
        contract: Any = {"tables": "evolve", "columns": mode, "data_type": "freeze"}
        resource = dlt.resource(list(rows), name=mode, write_disposition="append")
        resource.apply_hints(schema_contract=contract)
        return dlt.source(lambda: resource, name=f"contract_{mode}")()

    run(source({"id": 1}), into="load_lists")
    if came < 0:
        with pytest.raises(Failure, match="column new: the contract columns: freeze"):
            run(source({"id": 2, "new": "x"}), into="load_lists")
    else:
        assert run(source({"id": 2, "new": "x"}), into="load_lists") == {mode: came}
    assert warehouse.rows(query.format(f"load_lists.{mode}") + " ORDER BY 1") == expected


def test_a_load_without_a_schema_of_its_own_is_refused_and_repeats_no_row(
    connect: Callable[..., None], warehouse: Warehouse, capfd: pytest.CaptureFixture[str]
) -> None:
    connect()
    import dlt

    from harmattan.loads import load as run

    def source(*rows: dict[str, Any]) -> Any:
        resource = dlt.resource(list(rows), name="names", write_disposition="append")
        resource.apply_hints(
            columns={"name": {"nullable": False}, "born": {"data_type": "date"}},
            schema_contract={"columns": "evolve", "data_type": "freeze"},
        )
        return dlt.source(lambda: resource, name="names")()

    hidden = secrets.token_hex(8)
    expected = {
        "the warehouse refused it: 42501": ("load_other", {"name": hidden}),
        "column `name`": ("load_lists", {"name": None, "note": hidden}),
        "column born__v_text: the contract data_type: freeze": (
            "load_lists",
            {"name": "A", "born": hidden},
        ),
    }
    for message, (schema, row) in expected.items():
        with pytest.raises(Failure, match=message) as failed:
            run(source({"name": "A", "born": "2001-01-01"}, row), into=schema)
        assert hidden not in f"{failed.value!r} {capfd.readouterr()}"


def test_rows_of_a_load_that_never_completed_go_with_what_hangs_on_them(
    connect: Callable[..., None], warehouse: Warehouse
) -> None:
    connect()
    import dlt

    from harmattan.loads import load as run

    def orders(number: int) -> Any:
        rows = [{"id": number, "books": [{"title": f"{number}a"}, {"title": f"{number}b"}]}]
        resource = dlt.resource(rows, name="orders", write_disposition="append")
        return dlt.source(lambda: resource, name="orders")()

    for number in (1, 2):
        run(orders(number), into="load_lists")
    with psycopg.connect(warehouse.admin) as connection:
        connection.execute(
            "DELETE FROM load_lists._dlt_loads WHERE load_id ="
            " (SELECT _dlt_load_id FROM load_lists.orders WHERE id = 2)"
        )
    run(orders(2), into="load_lists")
    assert warehouse.rows("SELECT id FROM load_lists.orders ORDER BY 1") == [(1,), (2,)]
    titles = warehouse.rows("SELECT title FROM load_lists.orders__books ORDER BY 1")
    assert titles == [("1a",), ("1b",), ("2a",), ("2b",)]

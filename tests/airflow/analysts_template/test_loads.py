"""The template's loads by dlt: an API, files and a MariaDB, into PostgreSQL and DuckDB."""

from __future__ import annotations

import logging
import os
import pickle
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from openpyxl import Workbook

from frame.failure import Failure
from harmattan.connections import resolve
from scripts.local.databases import LOAD_SCHEMAS, LOADS
from tests.airflow.harmattan.running import running
from tests.http_server import Answer, HttpServer, Request, http_server
from tests.mariadb import MariaDb, started_mariadb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "airflow" / "analysts-template"
RUN = "import sys; sys.path.insert(0, sys.argv[1]); from loads.pipelines import {}; {}.run()"


@dataclass
class Warehouse:
    """A database with the schemas of loads, and the analysts' login of it."""

    admin: str
    uri: str

    @property
    def password(self) -> str:
        return self.uri.split(":")[2].partition("@")[0]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.admin) as connection:
            return connection.execute(query.encode()).fetchall()

    def everything(self, schema: str) -> str:
        """Return all rows of a schema and of its staging, as text."""
        tables = self.rows(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
            f" WHERE schemaname IN ('{schema}', '{schema}_staging')"
        )
        assert tables
        found = [self.rows(f"SELECT t::text FROM {table} AS t") for (table,) in tables]
        return "\n".join(row for rows in found for (row,) in rows)


@dataclass
class Library:
    """The library's service: two loans a page, and trouble first if there is any."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    loans: list[dict[str, Any]] = field(default_factory=list)
    trouble: list[Answer] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        if self.trouble:
            return self.trouble.pop(0)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return Answer(401, {"error": "no such token"})
        asked = {name: value for name, (value,) in parse_qs(urlsplit(request.path).query).items()}
        since, begin = asked["updated_since"], int(asked.get("cursor", 0))
        new = [loan for loan in self.loans if loan["updated_at"] >= since]
        more = {"next_cursor": str(begin + 2)} if len(new) > begin + 2 else {}
        return Answer(200, {"loans": new[begin : begin + 2], **more})

    def lend(self, number: int, minute: int, **more: Any) -> None:
        self.loans = [loan for loan in self.loans if loan["id"] != number]
        at = f"2026-10-01T08:{minute:02}:00Z"
        self.loans.append({"id": number, "title": f"Book {number}", "updated_at": at, **more})


@pytest.fixture(scope="module", autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set dlt up as the image does, and let it keep nothing in anybody's home."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in image_settings().items():
            patch.setenv(name, value)
        patch.setenv("DLT_DATA_DIR", str(tmp_path_factory.mktemp("dlt")))
        patch.setenv("AIRFLOW_HOME", str(tmp_path_factory.mktemp("airflow")))
        patch.syspath_prepend(str(TEMPLATE))
        patch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://")
        resolve("warehouse")  # Airflow takes the log over when it is first asked
        yield


def image_settings() -> dict[str, str]:
    text = (ROOT / "airflow" / "Dockerfile").read_text()
    return dict(re.findall(r"\b((?:RUNTIME|PROVIDERS|LOAD)__\w+)=(\S+)", text))


@pytest.fixture(scope="module")
def warehouse(postgres: PostgresServer) -> Warehouse:
    admin = postgres.create_database()
    name = admin.rpartition("/")[2]
    role, password = f"{name}_analyst", secrets.token_urlsafe(12)
    with psycopg.connect(admin) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        connection.execute(
            b"DO $$ BEGIN CREATE ROLE warehouse_readers NOLOGIN;"
            b" EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        for load in LOADS:
            connection.execute(LOAD_SCHEMAS.format(name=load, role=role).encode())
    uri = f"postgresql://{role}:{password}@127.0.0.1:{postgres.port}/{name}"
    return Warehouse(admin, uri)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse) -> Callable[..., None]:
    """Give the pipelines their connections, as Vault would."""

    def give(**uris: str) -> None:
        for name, uri in {"warehouse": warehouse.uri, **uris}.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", uri)

    give()
    return give


@pytest.fixture
def library(connect: Callable[..., None]) -> Iterator[tuple[Library, HttpServer]]:
    service = Library()
    with http_server(service) as server:
        connect(library=f"http://:{service.token}@{server.address}/")
        yield service, server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDb]:
    with started_mariadb() as server:
        yield server


def load(name: str) -> dict[str, int]:
    import importlib

    rows: dict[str, int] = importlib.import_module(f"loads.pipelines.{name}").run()
    return rows


def sheet(file: Path, *rows: tuple[Any, ...], header: tuple[str, ...] = ("day", "form", "present")):
    book = Workbook()
    for row in (header, *rows):
        book.active.append(row)
    file.parent.mkdir(parents=True, exist_ok=True)
    book.save(file)


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


def test_the_dag_loads_and_its_asset_says_how_much(
    library: tuple[Library, HttpServer],
    warehouse: Warehouse,
    postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    service, server = library
    service.lend(200, 59)
    bundle = tmp_path / "bundle"
    ignore = shutil.ignore_patterns("__pycache__", ".*_cache", "models*", "school_report*")
    shutil.copytree(TEMPLATE, bundle, ignore=ignore)
    metadata = postgres.create_database()
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
    import tomllib

    desk = tomllib.loads((TEMPLATE / ".dlt/config.toml").read_text())
    assert image_settings() == {
        f"{section}__{name}".upper(): str(value).lower()
        for section, values in desk.items()
        for name, value in values.items()
    }

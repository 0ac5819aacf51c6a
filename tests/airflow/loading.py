"""A warehouse, a library and a MariaDB for loads by dlt, and dlt as the image sets it up."""

from __future__ import annotations

import importlib
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from openpyxl import Workbook

from harmattan.connections import resolve
from scripts.local.databases import LOAD_SCHEMAS, LOADS
from scripts.repository import ROOT
from tests.http_server import Answer, HttpServer, Request, http_server
from tests.mariadb import MariaDb, started_mariadb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import PostgresServer

TEMPLATE = ROOT / "airflow" / "analysts-template"


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


@pytest.fixture(scope="module")
def dlt_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
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
def warehouse(postgres: PostgresServer, dlt_settings: None) -> Warehouse:
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
    rows: dict[str, int] = importlib.import_module(f"loads.pipelines.{name}").run()
    return rows


def sheet(file: Path, *rows: tuple[Any, ...], header: tuple[str, ...] = ("day", "form", "present")):
    book = Workbook()
    for row in (header, *rows):
        book.active.append(row)
    file.parent.mkdir(parents=True, exist_ok=True)
    book.save(file)

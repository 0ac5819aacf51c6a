"""The night as a real warehouse has it, asked by a login that reads `ops` and nothing else."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from frame.failure import Failure
from harmattan.overview import night
from tests.airflow.harmattan.overview.warehouse import make_warehouse

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs


@pytest.fixture
def file(postgres: PostgresServer, tmp_path: Path) -> Path:
    """The file of a login's URI, of a warehouse where two pipelines ran."""
    uri = tmp_path / "warehouse_uri"
    uri.write_text(make_warehouse(postgres, f"warehouse_{secrets.token_hex(3)}"))
    return uri


def test_of_each_pipeline_the_last_run_is_shown_and_what_failed_in_it(file: Path) -> None:
    found = night.newest(file)
    assert [(run.pipeline, run.status, run.published, run.failed, run.rows)
            for run in found.pipelines] == [
        ("service_desk", "failed", 1, 1, 500), ("hr", "success", 2, 0, 7432)]  # fmt: skip
    assert found.pipelines[0].table == "raw_service_desk.tickets"
    (check,) = found.checks
    assert (check.check, check.found, check.keys, check.breaking) == (
        "unique (ticket_id)", "12 keys", [str(n) for n in range(night.MOST_KEYS)], 12)  # fmt: skip


def test_the_login_reads_ops_and_nothing_else(file: Path) -> None:
    uri = file.read_text()
    for statement in (
        "SELECT * FROM raw_hr.employees",
        "DELETE FROM ops.runs",
        "SET default_transaction_read_only = off; DELETE FROM ops.runs",
        "CREATE SCHEMA x",
        "CREATE TEMPORARY TABLE x (a int)",
        "COPY ops.runs TO PROGRAM 'true'",
    ):
        with (
            psycopg.connect(uri, autocommit=True) as connection,
            pytest.raises(
                (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)
            ),
        ):
            connection.execute(sql.SQL(statement))  # type: ignore[arg-type]


def test_a_warehouse_without_a_run_has_no_night(postgres: PostgresServer, file: Path) -> None:
    name = f"warehouse_{secrets.token_hex(3)}"
    file.write_text(make_warehouse(postgres, name, runs=False))
    assert night.newest(file) == night.Night()
    with psycopg.connect(postgres.uri(name)) as connection:
        connection.execute("DROP SCHEMA ops CASCADE")
    assert night.newest(file) == night.Night()


@pytest.mark.parametrize(
    "uri", ["", "postgresql://a:PASSWORD@[::1", "postgresql://a:PASSWORD@127.0.0.1:1/x"]
)
def test_what_prevents_it_is_said_without_the_password(tmp_path: Path, uri: str) -> None:
    (tmp_path / "uri").write_text(uri)
    with pytest.raises(Failure, match="warehouse: expected") as failed:
        night.newest(tmp_path / "uri")
    assert "PASSWORD" not in str(failed.value)
    with pytest.raises(Failure, match="found none"):
        night.newest(tmp_path / "nothing")

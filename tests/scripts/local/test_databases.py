from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from scripts.local import databases, home
from standins.school.load import Mark
from tests.conftest import started_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server with the platform's databases and roles, and the secrets of a home of its own."""
    with started_server() as started:
        monkeypatch.setattr(home, "SECRETS", tmp_path)
        monkeypatch.setattr(databases, "ADDRESS", "127.0.0.1")
        monkeypatch.setattr(databases, "PORT", started.port)
        home.kept("postgres", lambda: started.password)
        databases.create()
        yield


def count(role: str, table: str) -> int:
    with psycopg.connect(databases.role(role).uri) as connection:
        row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.programs
@pytest.mark.usefixtures("server")
def test_a_source_of_an_older_edition_is_replaced_and_its_jobs_keep_their_grants() -> None:
    databases.fill(0.01)
    # What the first edition left behind: its mark, and a table that is not in this one.
    with psycopg.connect(databases.owner("hr").uri) as connection:
        connection.execute(
            "COMMENT ON SCHEMA public IS 'Harmattan''s school: hr, scale 0.01, seed 7'"
        )
        connection.execute("DROP TABLE leave_entitlements; CREATE TABLE outdated (id int)")
    with psycopg.connect(databases.owner("records").uri) as connection:
        connection.execute("DELETE FROM results")

    databases.fill(0.01)
    with psycopg.connect(databases.owner("hr").uri) as connection:
        assert Mark.read(connection.cursor()) == Mark("hr", 0.01, 7)
        assert connection.execute("SELECT to_regclass('outdated')").fetchone() == (None,)
    assert count("hr_ingest", "leave_entitlements") > 0
    assert count("hr_backup", "leave_entitlements") > 0
    # What this edition loaded is left alone, whatever has changed in it since.
    assert count("records_ingest", "results") == 0

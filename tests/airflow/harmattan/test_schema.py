from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from harmattan import schema

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer

WAIT = "import sys; from harmattan import schema; schema.LIMIT = float(sys.argv[2]); schema.main()"


@pytest.mark.slow
def test_what_is_read_off_the_files_is_what_alembic_says() -> None:
    """In a process of its own: it imports Airflow."""
    program = (
        "from alembic.script import ScriptDirectory\n"
        "from airflow.providers.fab.auth_manager.models.db import FABDBManager\n"
        "from airflow.utils import db\n"
        "main = ScriptDirectory.from_config(db._get_alembic_config()).get_heads()\n"
        "fab = FABDBManager(None).get_script_object().get_heads()\n"
        "from harmattan import schema\n"
        "assert list(schema.wanted().values()) == [set(main), set(fab)]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_revision_that_another_follows_is_not_the_newest(tmp_path: Path) -> None:
    (tmp_path / "1.py").write_text('revision = "one"\ndown_revision = None\n')
    (tmp_path / "2.py").write_text('revision: str = "two"\ndown_revision: str | None = "one"\n')
    (tmp_path / "3.py").write_text('revision = "left"\ndown_revision = "two"\n')
    (tmp_path / "4.py").write_text("revision = 'right'\ndown_revision = ('two',)\n")
    assert schema.newest(tmp_path) == {"left", "right"}


def waiting(tmp_path: Path, uri: str, seconds: float) -> subprocess.Popen[str]:
    (tmp_path / "uri").write_text(uri.replace("postgresql:", "postgresql+psycopg2:") + "\n")
    return subprocess.Popen(
        [sys.executable, "-c", WAIT, tmp_path / "uri", str(seconds)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def migrate(uri: str, revisions: dict[str, set[str]]) -> None:
    with psycopg.connect(uri) as connection:
        for table, heads in revisions.items():
            connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (version_num text)")
            connection.execute(f"DELETE FROM {table}")
            for head in heads:
                connection.execute(f"INSERT INTO {table} VALUES (%s)", [head])


def test_it_waits_until_every_table_is_at_its_revision(database: str, tmp_path: Path) -> None:
    migrate(database, {"alembic_version": {"older"}})
    process = waiting(tmp_path, database, 60)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    migrate(database, schema.wanted())
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")


def test_in_vain_it_says_what_is_there_and_what_to_look_at(
    postgres: PostgresServer, database: str, tmp_path: Path
) -> None:
    _, said = waiting(tmp_path, database, 0).communicate(timeout=30)
    assert "it was never migrated" in said
    migrate(database, schema.wanted() | {"alembic_version": {"older"}})
    _, said = waiting(tmp_path, database, 0).communicate(timeout=30)
    assert "alembic_version older, alembic_version_fab" in said
    assert "HINT: Look at the job airflow-migrate" in said
    _, said = waiting(tmp_path, f"{database}_gone", 0).communicate(timeout=30)
    assert "a database that the server does not have" in said
    assert postgres.password not in said

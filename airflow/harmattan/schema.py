"""``python -m harmattan.schema FILE``: wait until the database has the schema of this image.

FILE holds the URI of Airflow's database. Five services wait for the migration before they start, so
it is done without Airflow, whose import takes four seconds of a processor: the newest revisions are
read off the files of its migrations.
"""

from __future__ import annotations

import ast
import re
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from frame import database
from frame.failure import Failure

# A first migration takes a minute; one of a large installation may take ten.
LIMIT = 900.0  # seconds
PAUSE = 2.0
# The migrations that Airflow ships, and where each keeps what the database is at.
MIGRATIONS = {
    "alembic_version": "migrations/versions",
    "alembic_version_fab": "providers/fab/migrations/versions",
}
_VERSIONS = sql.SQL("SELECT version_num FROM {}")
_ASSIGNED = re.compile(r"^(revision|down_revision)(?::[^=]*)? = (.+)$", re.MULTILINE)


def wanted() -> dict[str, set[str]]:
    """Return, by the table that says what the database is at, the newest revisions of the image."""
    spec = find_spec("airflow")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("airflow")
    package = Path(spec.origin).parent
    return {table: newest(package / folder) for table, folder in MIGRATIONS.items()}


def newest(folder: Path) -> set[str]:
    """Return the revisions of alembic's files in ``folder`` that no other one follows."""
    revisions: dict[str, set[str]] = {"revision": set(), "down_revision": set()}
    for file in folder.glob("*.py"):
        for name, value in _ASSIGNED.findall(file.read_text()):
            found = ast.literal_eval(value)
            revisions[name].update([found] if isinstance(found, str) else found or ())
    return revisions["revision"] - revisions["down_revision"]


def found(uri: str, patience: float) -> dict[str, set[str]]:
    """Return what the database is at, by table, waiting up to ``patience`` s for it to let this in.

    Raises Failure, and psycopg.Error; no table is no schema.
    """
    with database.opened(
        uri, name="Airflow's database", purpose="harmattan.schema", patience=patience
    ) as connection:
        return {
            table: {row[0] for row in connection.execute(_VERSIONS.format(sql.Identifier(table)))}
            for table in MIGRATIONS
        }


def main() -> None:
    """Exit 0 once the database is at this image's schema, 1 with a clear error if it is not."""
    uri = Path(sys.argv[1]).read_text()
    expected, deadline = wanted(), time.monotonic() + LIMIT
    while True:
        try:
            there, said = found(uri, deadline - time.monotonic()), ""
        except psycopg.errors.UndefinedTable:
            there, said = {}, "it was never migrated"
        except psycopg.Error as error:
            there, said = {}, f"it answers {error.sqlstate or type(error).__name__}"
        except Failure as failure:
            sys.exit(str(failure))
        if there == expected:
            return
        if time.monotonic() > deadline:
            sys.exit(
                f"after {LIMIT:.0f} s Airflow's database has another schema than this image:"
                f" {said or _named(there)}; expected {_named(expected)}\n"
                "HINT: Look at the job airflow-migrate; run it if it is of another image."
            )
        time.sleep(PAUSE)


def _named(revisions: dict[str, set[str]]) -> str:
    return ", ".join(f"{table} {'/'.join(sorted(at))}" for table, at in revisions.items())


if __name__ == "__main__":
    main()

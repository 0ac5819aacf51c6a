"""What it costs to see that a source table is the one that was planned: locks, files, moment.

The source's server writes into its log how long each statement took; those of the checks are added
up, with a fifth of a millisecond each for the way there and back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg import sql

from bench.figures import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.clusters import Cluster
    from bench.figures import Figure

_WANTED = 0.05  # of a run's time, at most
_WAY = 0.0002  # seconds
# A word of each statement of ingest.fence and ingest.moments, and of the catalogue's leaves.
_CHECKS = (
    "SAVEPOINT reading", "LOCK TABLE", "pg_relation_filenode", " LIMIT 0", "pg_snapshot_xmin",
    "pg_control_system", "pg_walfile_name", "WITH RECURSIVE part",
)  # fmt: skip
_LINE = re.compile(r"duration: ([0-9.]+) ms  (\w+)[^:]*: (.*?)(?=\n\d{4}-\d\d-\d\d |\Z)", re.DOTALL)


def share(source: Cluster, figure: Figure, run: Callable[[], None]) -> Target:
    """Return which share of the time of ``figure`` the checks take in one more ``run``."""
    log = source.home / "log"
    _log_statements(source, on=True)
    try:
        before = log.stat().st_size
        run()
    finally:
        _log_statements(source, on=False)
    with log.open("rb") as file:
        file.seek(before)
        said = file.read().decode(errors="replace")
    checks = [
        float(milliseconds) / 1000 + (_WAY if step in ("statement", "execute") else 0)
        for milliseconds, step, statement in _LINE.findall(said)
        if any(word in statement for word in _CHECKS)
    ]
    found = sum(checks) / figure.best if checks and figure.best else None
    text = f"identity checks, {figure.title.removeprefix('ingest run, ')}: share of its time"
    return Target(text, _WANTED, found, at_most=True)


def _log_statements(source: Cluster, *, on: bool) -> None:
    source.execute(
        sql.SQL("ALTER SYSTEM SET log_min_duration_statement = {}").format(0 if on else -1),
        "SELECT pg_reload_conf(), pg_sleep(0.3)",
    )

"""The engine under test: its pipeline files and its command, as an analyst uses them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.clusters import Cluster
    from bench.measure import Pipe

SCHEMA = "raw_bench"
_STATE = (SCHEMA, f"{SCHEMA}_staging", "ops")


def full(table: str) -> dict[str, object]:
    """Return the rule that loads ``table`` whole."""
    return {"name": f"public.{table}"}


def incremental(table: str, key: Sequence[str], cursor: str = "updated_at") -> dict[str, object]:
    """Return the rule that loads what changed in ``table``, each change once."""
    return {
        "name": f"public.{table}",
        "load": "incremental",
        "key": list(key),
        "cursor": cursor,
        "lookback": "0s",
    }


def pipeline(file: Path, *rules: Mapping[str, object]) -> Path:
    """Write the pipeline file of ``rules`` and return it."""
    text = {
        "source": "bench_source",
        "schema": SCHEMA,
        "schedule": "0 2 * * *",
        "owner": "bench",
        "tables": [dict(rule) for rule in rules],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(text, sort_keys=False))
    return file


def run(file: Path) -> Pipe:
    """Return the command that runs a pipeline file."""
    return [[str(Path(sys.executable).parent / "ingest"), "run", str(file)]]


def forget(warehouse: Cluster) -> None:
    """Drop all that the engine published, staged and remembers."""
    warehouse.execute(
        *(
            sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name))
            for name in _STATE
        )
    )

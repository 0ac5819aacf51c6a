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
SECOND = "raw_bench_second"  # for another way of loading the same tables
_STATE = (SCHEMA, f"{SCHEMA}_staging", SECOND, f"{SECOND}_staging", "ops")


def full(table: str) -> dict[str, object]:
    """Return the rule that loads ``table`` whole."""
    return {"name": f"public.{table}"}


def incremental(table: str, key: Sequence[str], cursor: str = "updated_at") -> dict[str, object]:
    """Return the rule that loads what ``cursor`` shows of changes in ``table``, each once."""
    return {
        "name": f"public.{table}",
        "load": "incremental",
        "key": list(key),
        "cursor": cursor,
        "lookback": "0s",
    }


def by_transactions(table: str, key: Sequence[str]) -> dict[str, object]:
    """Return the rule that loads what transactions wrote in ``table`` since the last load."""
    return {"name": f"public.{table}", "load": "incremental", "key": list(key)}


def pipeline(file: Path, *rules: Mapping[str, object], schema: str = SCHEMA) -> Path:
    """Write the pipeline file of ``rules``, which publishes into ``schema``, and return it."""
    text = {
        "source": "bench_source",
        "schema": schema,
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

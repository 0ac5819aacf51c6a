"""Peak memory of the engine at 1 M and at 30 M rows: it must not grow with the table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from psycopg import sql

from bench import data, full
from bench.clusters import free_bytes
from bench.figures import Figure, Section, Target
from bench.race import load_now, race
from frame.failure import Failure
from frame.progress import step

if TYPE_CHECKING:
    from bench.clusters import Cluster
    from bench.race import Setting

_COPIES = 5  # of lineitem in the large table
_SMALL = 6  # the small one is a sixth of lineitem
_LIMIT = 150.0  # MB
_FLAT = 1.1  # the large load's peak over the small one's
_ROOM = 14e9  # bytes at scale 1: 30 M rows with keys and WAL on both sides, and the sort of a key
_ABOUT = (
    "Peak resident memory of `ingest run`, all its processes, one run each: lineitem five times"
    " over (30 M rows at scale 1) beside a sixth of it (1 M)."
)


def measure(setting: Setting) -> Section:
    """Load a small and a large table by the engine; the large one is dropped afterwards."""
    if free_bytes() < _ROOM * setting.scale:
        raise Failure(
            f"expected {_ROOM * setting.scale / 1e9:.0f} GB free, found {free_bytes() / 1e9:.0f}",
            "Make room, point TMPDIR to a larger disk, or leave --only memory out.",
        )
    setting.load("lineitem")
    load = load_now()
    figures = [_one(setting, "lineitem_small"), _one(setting, "lineitem_large")]
    small, large = figures
    small.name, large.name = "ingest-small", "ingest-large"
    targets = [
        Target(
            f"memory: MB at {figure.rows:,} rows",
            _LIMIT,
            figure.peak_mb if figure.best else None,
            at_most=True,
        )
        for figure in figures
    ]
    grown = large.peak_mb / small.peak_mb if small.best and large.best else None
    targets.append(Target("memory: large load over small load", _FLAT, grown, at_most=True))
    return Section("memory", "Memory", _ABOUT, figures, targets, load)


def _one(setting: Setting, table: str) -> Figure:
    source = setting.clusters.source
    with step(f"make the table {table}"):
        _make(source, table)
    try:
        wanted = data.digest(source, "public", table)
        once = replace(setting, rounds=1)  # memory does not vary as time does
        [figure] = race([full.ours(once, wanted, table)], once)
        figure.title = f"ingest run, {wanted[0]:,} rows"
        return figure
    finally:
        source.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)), "CHECKPOINT")


def _make(source: Cluster, table: str) -> None:
    source.execute(
        sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table)),
        data.create("lineitem", table),
    )
    if table == "lineitem_small":
        part = sql.SQL("INSERT INTO {} TABLE lineitem LIMIT (SELECT count(*) / {} FROM lineitem)")
        source.execute(part.format(sql.Identifier(table), _SMALL))
    else:
        step_key = int(source.row("SELECT max(l_orderkey) + 1 FROM lineitem")[0])
        rest = sql.SQL(", ").join(
            map(sql.Identifier, list(data.types(source, "public", "lineitem"))[1:])
        )
        for copy in range(_COPIES):
            source.execute(
                sql.SQL("INSERT INTO {} SELECT l_orderkey + {}, {} FROM lineitem").format(
                    sql.Identifier(table), copy * step_key, rest
                )
            )
    source.execute(data.add_key("lineitem", table))
    data.settle(source, "public", table)

"""Full load: lineitem as a keyed table, beside what psql can do by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from bench import data, engine
from bench.figures import OURS, Section, Target, find, ratio
from bench.race import Contender, load_now, race
from frame.failure import Failure

if TYPE_CHECKING:
    from bench.measure import Pipe
    from bench.race import Setting

BASELINE = "psql-text-keyed"
BEST_BY_HAND = "psql-binary-key-after"
# Times as fast as each, at least.
_WANTED = {
    BASELINE: ("psql's text COPY into the keyed table", 1.4),
    BEST_BY_HAND: ("psql's binary COPY, then the key", 0.95),
}
_BY_HAND = "by_hand"
_ABOUT = (
    "TPC-H lineitem from one PostgreSQL into another, into a table with its primary key unless"
    " said otherwise; every copy compared with the source, row by row, by a digest of all columns."
)


@dataclass(frozen=True)
class _ByHand:
    """One way to copy a table by two psql and a pipe."""

    name: str
    title: str
    binary: bool
    key: str  # before, after, none


_BY_HAND_WAYS = (
    _ByHand(BASELINE, "psql: text COPY into the keyed table", binary=False, key="before"),
    _ByHand("psql-text-bare", "psql: text COPY, no key", binary=False, key="none"),
    _ByHand("psql-binary-keyed", "psql: binary COPY into the keyed table", True, "before"),
    _ByHand("psql-binary-bare", "psql: binary COPY, no key", binary=True, key="none"),
    _ByHand(BEST_BY_HAND, "psql: binary COPY, then the key", binary=True, key="after"),
)


def measure(setting: Setting) -> Section:
    """Race the engine against psql on a full load of lineitem."""
    setting.load("lineitem")
    load = load_now()
    wanted = data.digest(setting.clusters.source, "public", "lineitem")
    contenders = [ours(setting, wanted), *(_by_hand(setting, way, wanted) for way in _BY_HAND_WAYS)]
    figures = race(contenders, setting)
    targets = [
        Target(
            f"full load: times as fast as {title}",
            wanted,
            ratio(find(figures, OURS), find(figures, name)),
        )
        for name, (title, wanted) in _WANTED.items()
    ]
    return Section("full", "Full load", _ABOUT, figures, targets, load)


def ours(
    setting: Setting, wanted: tuple[int, int], table: str = "lineitem", *, keyed: bool = True
) -> Contender:
    """Return the engine's full load of ``table``, whose digest is ``wanted``, with its key."""
    warehouse = setting.clusters.warehouse
    file = engine.pipeline(setting.home / "full" / f"{table}.yaml", engine.full(table))
    return Contender(
        name=OURS,
        title="ingest run",
        rows=wanted[0],
        pipe=lambda: engine.run(file),
        prepare=lambda: engine.forget(warehouse),
        check=lambda: _check(setting, wanted, engine.SCHEMA, table, keyed=keyed),
        clear=lambda: engine.forget(warehouse),
    )


def _by_hand(setting: Setting, way: _ByHand, wanted: tuple[int, int]) -> Contender:
    clusters = setting.clusters
    form = sql.SQL(" (FORMAT binary)" if way.binary else "")
    into = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(_BY_HAND, "lineitem")) + form
    after = [data.add_key("lineitem", _BY_HAND, "lineitem")] if way.key == "after" else []
    drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(_BY_HAND))

    def prepare() -> None:
        clusters.warehouse.execute(
            drop,
            sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(_BY_HAND)),
            data.create("lineitem", _BY_HAND, "lineitem"),
        )
        if way.key == "before":
            clusters.warehouse.execute(data.add_key("lineitem", _BY_HAND, "lineitem"))

    def pipe() -> Pipe:
        out = sql.SQL("COPY lineitem TO STDOUT") + form
        return [clusters.source.psql(out), clusters.warehouse.psql(into, *after)]

    return Contender(
        name=way.name,
        title=way.title,
        rows=wanted[0],
        pipe=pipe,
        prepare=prepare,
        check=lambda: _check(setting, wanted, _BY_HAND, "lineitem", keyed=way.key != "none"),
        clear=lambda: clusters.warehouse.execute(drop),
    )


def _check(
    setting: Setting, wanted: tuple[int, int], schema: str, table: str, *, keyed: bool
) -> dict[str, Any]:
    warehouse = setting.clusters.warehouse
    found = data.digest(warehouse, schema, table)
    if found != wanted:
        raise Failure(
            f"{schema}.{table}: expected {wanted[0]} rows with the source's digest,"
            f" found {found[0]} and {'the same' if found[1] == wanted[1] else 'another'} digest",
            "Report this.",
        )
    if data.keyed(warehouse, schema, table) != keyed:
        raise Failure(
            f"{schema}.{table}: expected {'a' if keyed else 'no'} primary key", "Report this."
        )
    return {}

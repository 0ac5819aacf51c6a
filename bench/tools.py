"""Full load by the tools that users know, beside the engine.

Each is tuned as its documentation tells for this case, and may leave the primary key out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg import sql

from bench import data, full, singer, toolbox
from bench.figures import OURS, Figure, Section, Target, find, ratio
from bench.race import Contender, load_now, race
from frame.failure import Failure
from frame.output import screen

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.measure import Pipe
    from bench.race import Setting

console = screen(stderr=True)

_WANTED = 2.5  # times as many rows a second as the fastest tool
_PART = 200_000  # rows for the ways that move some 8,000 rows a second
# Rows a batch. ingestr moved 117,000 rows/s with it, 103,000 with its default of 25,000; for dlt it
# is twice the default.
_CHUNK = "100000"
# What every tool keeps letter by letter: numeric and char(n) turn into other types in some.
_COMMON = ("l_orderkey", "l_linenumber", "l_shipdate", "l_comment")
_BARE = "lineitem_bare"
_KEYED = f"{OURS}-keyed"
_ABOUT = (
    "The same rows by each tool's own command, tuned. What takes many minutes runs once, or on"
    f" {_PART:,} rows. The tools leave the primary key out, save target-postgres; they are held"
    " against ingest on a table that has none, and it is measured with one besides."
)


@dataclass(frozen=True)
class _Way:
    """One way to use one tool: ``pipe`` gives its command from the venv, table and schema."""

    name: str
    title: str
    tool: toolbox.Tool
    pipe: Callable[[Setting, Path, str, str], Pipe]
    once: bool = False
    part: bool = False  # of the rows, and once


def measure(setting: Setting) -> Section:
    """Race the engine against the tools on a full load of lineitem."""
    setting.load("lineitem")
    _part(setting)
    _bare(setting)
    load = load_now()
    wanted = data.digest(setting.clusters.source, "public", "lineitem")
    bare = full.ours(setting, wanted, _BARE, keyed=False)
    keyed = full.ours(setting, wanted)
    contenders, absent = (
        [
            replace(bare, title="ingest run, no key"),
            replace(keyed, name=_KEYED, title="ingest run, with the primary key"),
        ],
        [],
    )
    for way in _WAYS:
        try:
            contenders.append(_contender(setting, way))
        except Failure as error:
            console.print(f"[yellow]left out:[/] {way.title}: {error.message}")
            absent.append(Figure(way.name, way.title, 0, failed=error.message))
    figures = race(contenders, setting) + absent
    rivals = [figure for figure in figures if figure.rate and figure.name not in (OURS, _KEYED)]
    fastest = max(rivals, key=lambda figure: figure.rate or 0, default=None)
    target = Target(
        "full load, no key: times as fast as the fastest tool",
        _WANTED,
        ratio(find(figures, OURS), fastest) if fastest else None,
    )
    return Section("tools", "Full load, other tools", _ABOUT, figures, [target], load)


def _contender(setting: Setting, way: _Way) -> Contender:
    clusters = setting.clusters
    venv = toolbox.install(way.tool, setting.tools)
    table = "lineitem_part" if way.part else "lineitem"
    schema = f"by_{way.name.replace('-', '_')}"
    wanted = data.digest(clusters.source, "public", table, columns=_COMMON)
    drop = sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema))
    environment = {
        **way.tool.variables(setting.home),
        **connections(setting),
        **singer.environment(clusters.source, clusters.warehouse),
    }

    once = way.once or way.part
    title = f"{way.title}, {wanted[0]:,} rows" if way.part else way.title

    def check() -> dict[str, Any]:
        found = data.digest(clusters.warehouse, schema, table, columns=_COMMON)
        if found != wanted:
            raise Failure(
                f"expected {wanted[0]} rows like the source's, found {found[0]}", "See its log."
            )
        kinds = data.types(clusters.source, "public", table)
        landed = data.types(clusters.warehouse, schema, table)
        return {
            "types_kept": sum(landed.get(name) == kind for name, kind in kinds.items()),
            "columns": len(kinds),
            "keyed": data.keyed(clusters.warehouse, schema, table),
        }

    return Contender(
        name=way.name,
        title=f"{title}, once" if once else title,
        rows=wanted[0],
        pipe=lambda: way.pipe(setting, venv, table, schema),
        prepare=lambda: clusters.warehouse.execute(
            drop, sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema))
        ),
        check=check,
        clear=lambda: clusters.warehouse.execute(drop),
        environment=environment,
        once=once,
        cwd=setting.home,
    )


def connections(setting: Setting) -> dict[str, str]:
    """Return the two databases in the variables that Sling, ingestr and dlt_load.py read."""
    source, warehouse = setting.clusters.source, setting.clusters.warehouse
    return {
        "SLING_FROM": f"{source.uri()}?sslmode=disable",
        "SLING_TO": f"{warehouse.uri()}?sslmode=disable",
        "SOURCE_URI": source.uri(),
        "DESTINATION_URI": warehouse.uri(),
        "BENCH_SOURCE": source.uri("postgresql+psycopg2"),
        "BENCH_WAREHOUSE": warehouse.uri(),
    }


def sling(venv: Path, table: str, schema: str, *words: str) -> Pipe:
    """Return Sling's command; ``words`` say how."""
    return [
        [str(toolbox.sling(venv)), "run", "--src-conn", "SLING_FROM",
         "--src-stream", f"public.{table}", "--tgt-conn", "SLING_TO",
         "--tgt-object", f"{schema}.{table}", *words]
    ]  # fmt: skip


def ingestr(venv: Path, table: str, schema: str, *words: str) -> Pipe:
    """Return ingestr's command; ``words`` say how."""
    return [
        [str(venv / "bin" / "ingestr"), "ingest", "--source-table", f"public.{table}",
         "--dest-table", f"{schema}.{table}", "--yes", "--progress", "log",
         "--page-size", _CHUNK, *words]
    ]  # fmt: skip


def dlt(
    venv: Path, table: str, schema: str, *words: str, backend: str, form: str = "parquet"
) -> Pipe:
    """Return the command of dlt_load.py; ``words`` are the key and the cursor, if any."""
    script = str(Path(__file__).resolve().parent / "dlt_load.py")
    chunk = "50000" if form == "default" else _CHUNK
    return [[str(venv / "bin" / "python"), script, table, schema, backend, form, chunk, *words]]


def _bare(setting: Setting) -> None:
    """Have lineitem without its key in the source: the same result is wanted of everyone."""
    source = setting.clusters.source
    if data.rows(source, "public", _BARE) is None:
        source.execute(sql.SQL("CREATE TABLE {} AS TABLE lineitem").format(sql.Identifier(_BARE)))
        data.settle(source, "public", _BARE)


def _part(setting: Setting) -> None:
    source = setting.clusters.source
    if data.rows(source, "public", "lineitem_part") is None:
        source.execute(
            sql.SQL("CREATE TABLE lineitem_part AS TABLE lineitem LIMIT {}").format(_PART),
            data.add_key("lineitem", "lineitem_part"),
        )
        data.settle(source, "public", "lineitem_part")


_WAYS = (
    _Way("ingestr", toolbox.INGESTR.title, toolbox.INGESTR,
         lambda _, venv, table, schema: ingestr(venv, table, schema)),
    _Way("sling", f"{toolbox.SLING.title}, direct insert", toolbox.SLING,
         lambda _, venv, table, schema: sling(
             venv, table, schema, "--mode", "full-refresh",
             "--tgt-options", '{"direct_insert": true}'),
         once=True),
    _Way("dlt-connectorx", f"{toolbox.DLT.title}, connectorx and ADBC", toolbox.DLT,
         lambda _, venv, table, schema: dlt(venv, table, schema, backend="connectorx")),
    _Way("dlt-pyarrow", f"{toolbox.DLT.title}, pyarrow and ADBC", toolbox.DLT,
         lambda _, venv, table, schema: dlt(venv, table, schema, backend="pyarrow")),
    _Way("dlt-default", f"{toolbox.DLT.title}, as it comes", toolbox.DLT,
         lambda _, venv, table, schema: dlt(
             venv, table, schema, backend="sqlalchemy", form="default"),
         part=True),
    _Way("singer", f"{toolbox.TAP.title} into {toolbox.TARGET.title}", toolbox.TAP,
         lambda setting, venv, table, schema: singer.pipe(
             venv, toolbox.install(toolbox.TARGET, setting.tools), setting, table, schema),
         part=True),
)  # fmt: skip

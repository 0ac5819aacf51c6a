"""Incremental load: 1% of orders changed, and nothing changed at all."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from psycopg import sql

from bench import data, engine, identity, toolbox, tools
from bench.figures import OURS, Figure, Section, Target, find, ratio
from bench.race import Contender, load_now, once, race
from frame.failure import Failure
from frame.output import screen
from frame.progress import step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from bench.measure import Pipe
    from bench.race import Setting

console = screen(stderr=True)

BY_TRANSACTIONS = "ingest-by-transactions"
BASELINE = "psql-asks"
TOLD = "psql-told"
NOTHING = "ingest-nothing"
_WANTED = 1.3  # times psql's time, at most
_WANTED_NOTHING = 0.6  # seconds, at most
_NEWEST = "newest-value"  # where the shell puts it
_SHARE = 100  # one row in so many changes
_RECENT = 6  # a sixth of lineitem is the third table of the run without changes
_COMMON = ("o_orderkey", "o_custkey", "o_orderdate", "o_comment", "updated_at")
_ABOUT = (
    "Whole commands with their start. 1% of TPC-H orders changed before each round. ingest finds"
    " them by the transactions that wrote them, whether a cursor is named or not; the others by an"
    " indexed updated_at. psql asks its copy for the newest value, copies the changed rows into a"
    " temporary table and merges them by ON CONFLICT DO UPDATE; once more it is told that value, as"
    " ingestr is; the others keep it."
    " Every copy is compared with the source. Nothing changed: one pipeline of three such tables."
)


@dataclass
class _Changes:
    """The changes of a round, and the cursor as it stood before them."""

    setting: Setting
    cursor: datetime | None = field(default=None)
    wanted: tuple[int, int] = (0, 0)

    def make(self) -> None:
        """Change 1% of orders, chosen at random; what the last round left is settled first."""
        source = self.setting.clusters.source
        self.cursor = source.row("SELECT max(updated_at) FROM orders")[0]
        with step("change 1% of orders"):
            count = data.rows(source, "public", "orders") or 0
            source.execute(
                sql.SQL(
                    "UPDATE orders SET o_comment = left(md5(random()::text) || o_comment, 79),"
                    " updated_at = clock_timestamp() WHERE o_orderkey IN"
                    " (SELECT o_orderkey FROM orders ORDER BY random() LIMIT {})"
                ).format(count // _SHARE)
            )
            self.mark()
            data.settle(source, "public", "orders")
            self.wanted = data.digest(source, "public", "orders", columns=_COMMON)

    def mark(self) -> None:
        """Let the newest row stand alone in its second: ingestr cuts the cursor there."""
        time.sleep(1.1)
        self.setting.clusters.source.execute(
            "UPDATE orders SET updated_at = clock_timestamp()"
            " WHERE o_orderkey = (SELECT min(o_orderkey) FROM orders)"
        )

    def check(self, schema: str) -> dict[str, Any]:
        """Compare a copy with the source; raises Failure where they differ."""
        warehouse = self.setting.clusters.warehouse
        found = data.digest(warehouse, schema, "orders", columns=_COMMON)
        if found != self.wanted:
            raise Failure(
                f"expected {self.wanted[0]} rows like the source's, found {found[0]}, or old ones",
                "See its log.",
            )
        return {}


def measure(setting: Setting) -> Section:
    """Race the engine against psql and the tools on 1% of changes, then run it without any."""
    setting.load("orders", "customer", "lineitem")
    changes = _Changes(setting)
    changes.mark()
    load = load_now()
    contenders = [*_ours(setting, changes), *_psql(setting, changes)]
    absent: list[Figure] = []
    for tool in (toolbox.SLING, toolbox.DLT, toolbox.INGESTR):
        try:
            contenders.append(_tool(setting, changes, tool))
        except Failure as error:
            console.print(f"[yellow]left out:[/] {tool.title}: {error.message}")
            absent.append(Figure(tool.name, tool.title, 0, failed=error.message))
    figures = race(contenders, setting, changes.make) + absent
    costs = [_cost(setting, one, find(figures, one.name)) for one in contenders[:2]]
    engine.forget(setting.clusters.warehouse)
    nothing, cost = _nothing_changed(setting)
    figures.append(nothing)
    targets = [
        Target(
            f"incremental, {title}: times psql's{how}",
            _WANTED,
            ratio(find(figures, baseline), find(figures, ours)),
            at_most=True,
        )
        for ours, title in ((OURS, "by a cursor"), (BY_TRANSACTIONS, "by transactions"))
        for baseline, how in ((BASELINE, " time"), (TOLD, ", told"))
    ]
    targets += [
        Target(
            "nothing changed, three tables: seconds",
            _WANTED_NOTHING,
            find(figures, NOTHING).best,
            at_most=True,
        ),
    ]
    targets += [*costs, cost]
    return Section("incremental", "Incremental load", _ABOUT, figures, targets, load)


def _cost(setting: Setting, contender: Contender, figure: Figure) -> Target:
    """Return what identity checks cost in a run of ``contender``."""
    return identity.share(setting.clusters.source, figure, lambda: once(contender, setting))


def _changed(setting: Setting) -> int:
    return (data.rows(setting.clusters.source, "public", "orders") or 0) // _SHARE + 1


def _ours(setting: Setting, changes: _Changes) -> list[Contender]:
    """Return the engine's two ways: by a cursor, and by the transactions that wrote the rows."""
    engine.forget(setting.clusters.warehouse)
    by_cursor = engine.incremental("orders", data.ORDERS_KEY)
    by_transactions = engine.by_transactions("orders", data.ORDERS_KEY)
    return [
        _way(setting, changes, OURS, "a cursor", by_cursor, engine.SCHEMA),
        _way(setting, changes, BY_TRANSACTIONS, "transactions", by_transactions, engine.SECOND),
    ]


def _way(
    setting: Setting,
    changes: _Changes,
    name: str,
    title: str,
    rule: Mapping[str, object],
    schema: str,
) -> Contender:
    file = engine.pipeline(setting.home / "incremental" / f"{name}.yaml", rule, schema=schema)
    return Contender(
        name=name,
        title=f"ingest run, load: incremental, by {title}",
        rows=_changed(setting),
        first=lambda: engine.run(file),
        pipe=lambda: engine.run(file),
        check=lambda: changes.check(schema),
    )


def _psql(setting: Setting, changes: _Changes) -> list[Contender]:
    """Return the merge written by hand: asking its copy for the newest value, and told it."""
    return [
        _merge(setting, changes, BASELINE, "psql: newest value, COPY, merge", asks=True),
        _merge(setting, changes, TOLD, "psql, told the newest value: COPY, merge", asks=False),
    ]


def _merge(setting: Setting, changes: _Changes, name: str, title: str, *, asks: bool) -> Contender:
    source, warehouse = setting.clusters.source, setting.clusters.warehouse
    names = list(data.types(source, "public", "orders"))
    schema = f"by_{name.replace('-', '_')}"
    warehouse.execute(
        sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)),
        data.create("orders", schema, "orders"),
        data.add_key("orders", schema, "orders"),
    )
    target = sql.Identifier(schema, "orders")
    merge = sql.SQL(
        "INSERT INTO {} SELECT * FROM changed ON CONFLICT (o_orderkey) DO UPDATE SET {}"
    ).format(
        target,
        sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column))
            for column in names
            if column not in data.ORDERS_KEY
        ),
    )
    temporary = sql.SQL("CREATE TEMPORARY TABLE changed (LIKE {})").format(target)
    into = [*warehouse.psql(temporary, "COPY changed FROM STDIN", merge), "--single-transaction"]

    def pipe() -> Pipe:
        if not asks:
            return [source.psql(_changed_rows(str(changes.cursor))), into]
        ask = warehouse.psql(sql.SQL("SELECT max(updated_at) FROM {}").format(target))
        out = shlex.join(source.psql(_changed_rows(_NEWEST))).replace(_NEWEST, "'\"$newest\"'")
        script = f"newest=$({shlex.join([*ask, '-At'])}) && {out} | {shlex.join(into)}"
        return [["bash", "-c", script]]

    return Contender(
        name=name,
        title=title,
        rows=_changed(setting),
        first=lambda: [
            source.psql("COPY orders TO STDOUT"),
            warehouse.psql(sql.SQL("COPY {} FROM STDIN").format(target)),
        ],
        pipe=pipe,
        check=lambda: changes.check(schema),
    )


def _changed_rows(newest: str) -> sql.Composed:
    return sql.SQL("COPY (SELECT * FROM orders WHERE updated_at > {}) TO STDOUT").format(newest)


def _tool(setting: Setting, changes: _Changes, tool: toolbox.Tool) -> Contender:
    venv = toolbox.install(tool, setting.tools)
    schema = f"changes_by_{tool.name}"
    commands: dict[str, Callable[[], Pipe]] = {
        "sling": lambda: tools.sling(
            venv, "orders", schema, "--mode", "incremental", "--primary-key", "o_orderkey",
            "--update-key", "updated_at",
        ),
        "dlt": lambda: tools.dlt(
            venv, "orders", schema, "o_orderkey", "updated_at", backend="pyarrow"
        ),
        "ingestr": lambda: tools.ingestr(
            venv, "orders", schema, "--incremental-strategy", "merge", "--incremental-key",
            "updated_at", "--primary-key", "o_orderkey", *_since(changes.cursor),
        ),
    }  # fmt: skip
    return Contender(
        name=tool.name,
        title=tool.title,
        rows=_changed(setting),
        first=commands[tool.name],
        pipe=commands[tool.name],
        check=lambda: changes.check(schema),
        environment={**tool.variables(setting.home), **tools.connections(setting)},
        cwd=setting.home,
    )


def _since(cursor: datetime | None) -> tuple[str, ...]:
    # Without it ingestr reads the whole table again: it keeps no cursor of its own.
    return () if cursor is None else ("--interval-start", cursor.isoformat())


def _nothing_changed(setting: Setting) -> tuple[Figure, Target]:
    source = setting.clusters.source
    if data.rows(source, "public", "lineitem_recent") is None:
        source.execute(
            sql.SQL(
                "CREATE TABLE lineitem_recent AS SELECT l.*, clock_timestamp() AS updated_at"
                " FROM lineitem AS l LIMIT (SELECT count(*) / {} FROM lineitem)"
            ).format(_RECENT),
            "ALTER TABLE lineitem_recent ALTER COLUMN updated_at SET NOT NULL",
            data.add_key("lineitem", "lineitem_recent"),
            "CREATE INDEX ON lineitem_recent (updated_at)",
        )
        data.settle(source, "public", "lineitem_recent")
    file = engine.pipeline(
        setting.home / "incremental" / "three_tables.yaml",
        engine.incremental("orders", data.ORDERS_KEY),
        engine.incremental("customer", data.KEYS["customer"]),
        engine.incremental("lineitem_recent", data.LINEITEM_KEY),
    )
    contender = Contender(
        name=NOTHING,
        title="ingest run, three tables, nothing changed",
        rows=0,
        first=lambda: engine.run(file),
        pipe=lambda: engine.run(file),
    )
    [figure] = race([contender], setting)
    cost = _cost(setting, contender, figure)
    engine.forget(setting.clusters.warehouse)
    return figure, cost

"""Whatever happens at a source, the warehouse holds what the pipeline file promises.

Hypothesis makes tables, rules and changes; after each run an oracle that knows nothing of how the
engine works says what must be there, from the source, and from what was there before the run.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ingest import run
from ingest.errors import RunFailedError, SchemaChangedError
from ingest.job import Scope
from ingest.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.run import Loaded
    from tests.ingest.world import World

Row = dict[int, str | None]  # by the number of the source's column, which outlives a rename
Columns = dict[int, tuple[str, str, bool]]  # name, type and NOT NULL, by that number
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NUMBER = st.integers(-(2**31), 2**31 - 1)
VALUES: dict[str, st.SearchStrategy[str]] = {
    "integer": NUMBER.map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric": st.one_of(
        st.sampled_from(["NaN", "Infinity", "-Infinity", "1.50", "-0.0", "1e400"]),
        st.decimals(-(10**9), 10**9, allow_nan=False, places=4).map(str),
    ),
    "numeric(12,2)": st.integers(-(10**11), 10**11).map(lambda cents: str(cents / 100)),
    "double precision": st.floats().map(lambda each: repr(each).replace("nan", "NaN")),
    "text": TEXT,
    "character varying(12)": TEXT,
    "character(12)": TEXT,
    "boolean": st.sampled_from(["true", "false"]),
    "bytea": st.binary(max_size=8).map(lambda each: "\\x" + each.hex()),
    "uuid": st.uuids().map(str),
    "date": st.one_of(st.sampled_from(["infinity", "0044-03-15 BC"]), st.dates().map(str)),
    "timestamp with time zone": st.one_of(
        st.sampled_from(["-infinity", "2026-01-01 00:00:00.000001+00"]),
        st.datetimes(datetime(1900, 1, 1), timezones=st.just(UTC)).map(str),
    ),
    "interval": st.sampled_from(["-1 mon +2 days -03:04:05.6", "0", "1 day 24:00"]),
    "json": st.sampled_from(['{"b" : 1, "a":[], "b": 2}', "null", '"\\u00e9"']),
    "jsonb": st.sampled_from(['{"b": [1.50, null]}', "null"]),
    "xml": st.sampled_from(['<?xml version="1.0" encoding="ISO-8859-1"?><a/>', "<b/>", ""]),
    "integer[]": st.sampled_from(["{}", "{1,NULL}", "[0:1]={1,2}", "{{1},{2}}"]),
    "text[]": st.sampled_from(["{}", '{"a,b",NULL,"NULL",""}']),
    "mood": st.sampled_from(["sad", "so so", ""]),
    "mood[]": st.sampled_from(["{}", '{sad,NULL,""}']),
    "pair": st.sampled_from(["(1,)", '(,"a b")', '(2,"""")']),
    "grade": st.sampled_from(["1.50", "2"]),
    "int4range": st.sampled_from(["empty", "[1,3)", "(,)"]),
    "regclass": st.sampled_from(["pg_class", "0"]),
    "point": st.sampled_from(["(1,2)", "(NaN,-0)"]),
}
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'so so', '')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN grade AS numeric CHECK (VALUE >= 0)",
)
# Changes of type that keep a value, or turn it into what is no longer the same text.
RETYPES = {
    "integer": ("bigint", "numeric", "text"),
    "bigint": ("numeric", "text"),
    "numeric(12,2)": ("numeric", "text"),
    "character varying(12)": ("character varying(40)", "text"),
    "character(12)": ("text",),
    "boolean": ("text",),
    "date": ("timestamp without time zone",),
    "timestamp without time zone": ("timestamp with time zone",),
    "mood": ("text",),
    "json": ("jsonb",),
    "text": ("character varying(40)", "bytea"),
}
WIDENED = {
    ("integer", "bigint"),
    ("character varying(12)", "character varying(40)"),
    ("character varying(12)", "text"),
}
SAFE_RETYPES = {  # of a cursor; a key may also become text
    ("integer", "bigint"),
    ("timestamp without time zone", "timestamp with time zone"),
}
KEYS = (
    ("integer",),
    ("text",),
    ("numeric",),
    ("integer", "text"),
    ("timestamp with time zone", "bigint"),
    ("uuid",),
    ("double precision",),
    ("mood", "integer"),
)
# Type: (what `tick` units after the start are, the unit in lookback's own measure, its measure).
CURSORS = {
    "timestamp with time zone": (600, "s"),
    "timestamp without time zone": (600, "s"),
    "date": (1, "d"),
    "integer": (1, ""),
    "bigint": (1, ""),
    "numeric": (1, ""),
    "smallint": (1, ""),
}
STARTS = {
    "integer": ("-2147483648", "0", "7"),
    "smallint": ("-32768",),
    "bigint": ("-9223372036854775808", "9007199254740992"),
    "numeric": ("0", "12345678901234567890123456789012345.678901", "-0.5"),
}
DEFAULT_LOOKBACK = {"s": 6, "d": 1, "": 0}  # ticks
SPECIAL = {
    "timestamp with time zone": ("infinity", "-infinity", "2200-01-01 00:00:00+00"),
    "timestamp without time zone": ("infinity", "-infinity", "2200-01-01 00:00:00"),
    "date": ("infinity", "-infinity", "2200-01-01"),
    "numeric": ("NaN", "Infinity", "-Infinity"),
}
DELETES = ("detect", "mark", "ignore")
Order = tuple[int, Fraction]
_WORDS = {"-infinity": -1, "infinity": 1, "-Infinity": -1, "Infinity": 1, "NaN": 2}


def order(text: str, kind: str) -> Order:
    """Return where a cursor value stands among its like; seconds of times, days of dates."""
    if text in _WORDS:
        return _WORDS[text], Fraction(0)
    if kind == "date":
        return 0, Fraction(date.fromisoformat(text).toordinal())
    if kind.startswith("timestamp"):
        moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
        passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
        return 0, Fraction(passed.days * 86400 + passed.seconds) + Fraction(
            passed.microseconds, 10**6
        )
    return 0, Fraction(text)


@dataclass
class Column:
    name: str
    kind: str


@dataclass
class Held:
    """What the warehouse showed of a table after its last load, and what the source was then."""

    rows: list[tuple[Row, bool]]  # and whether it is marked as deleted
    columns: Columns
    signature: object
    raw: Counter[tuple[str | None, ...]]
    source: Counter[tuple[str | None, ...]]
    newest: Order | None
    kept: frozenset[str] = frozenset()  # columns that left the source, of an append


@dataclass
class Table:
    """One table, its rule, and the next cursor value."""

    name: str
    key: tuple[str, ...]  # types
    key_in_file: bool
    cursor: str  # type
    nullable: bool
    start: str
    load: str
    deletes: str
    on_schema_change: str
    lookback: int | None  # ticks
    cursor_in_file: bool = True
    truncated: bool = False  # since the last run
    tick: int = 0
    serial: int = 0
    numbers: dict[str, int] = field(default_factory=dict)  # of the key's columns and the cursor
    first: int = 0  # the number of the last column when the table was last loaded whole
    held: Held | None = None

    def value(self, tick: int) -> str:
        """Return the SQL of the cursor value after ``tick`` units."""
        unit, measure = CURSORS[self.cursor]
        if measure == "s":
            return f"('2020-02-28 22:00+00'::timestamptz + interval '{tick * unit} s')"
        if measure == "d":
            return f"(date '2020-02-20' + {tick})"
        return f"({self.start}::numeric + {tick})"


@st.composite
def increments(draw: st.DrawFn) -> list[tuple[Table, list[Column]]]:
    """Give one small table: nothing but what an increment must find."""
    load = draw(st.sampled_from(["incremental", "incremental", "incremental", "append"]))
    key = draw(st.sampled_from([("integer",), ()])) if load == "append" else ("integer",)
    cursor = draw(st.sampled_from(sorted(CURSORS)))
    table = Table(
        name="t",
        key=key,
        key_in_file=False,
        cursor=cursor,
        nullable=True,
        start="0",
        load=load,
        deletes="ignore" if load == "append" else draw(st.sampled_from(DELETES)),
        on_schema_change="evolve",
        lookback=draw(st.sampled_from([0, 1, 3])),
        cursor_in_file=load == "append" or draw(st.booleans()),
    )
    return [(table, [Column("k0", "integer")] * bool(key) + [Column("at", cursor)])]


@st.composite
def tables(draw: st.DrawFn) -> list[tuple[Table, list[Column]]]:
    made = []
    for place in range(draw(st.sampled_from([1, 1, 2, 3]))):
        load = draw(st.sampled_from(["incremental"] * 5 + ["append"] * 3 + ["full"]))
        keys = KEYS if load == "incremental" else ((),) * len(KEYS) + KEYS
        key = draw(st.sampled_from(keys))
        cursor = draw(st.sampled_from(sorted(CURSORS)))
        table = Table(
            name=f"t{place}",
            key=key,
            key_in_file=bool(key) and draw(st.booleans()),
            cursor=cursor,
            nullable=draw(st.booleans()),
            start=draw(st.sampled_from(STARTS.get(cursor, ("0",)))),
            load=load,
            deletes="ignore" if load == "append" or not key else draw(st.sampled_from(DELETES)),
            on_schema_change=draw(st.sampled_from(["refresh", "evolve", "evolve", "fail"])),
            lookback=draw(st.sampled_from([0, None, 1, 3])),
            cursor_in_file=load != "incremental" or draw(st.booleans()),
        )
        kinds = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=3))
        columns = [Column(f"k{number}", kind) for number, kind in enumerate(key)]
        columns += [Column("at", cursor)]
        columns += [Column(f"c{number}", kind) for number, kind in enumerate(kinds)]
        made.append((table, draw(st.permutations(columns))))
    return made


class Play:
    """Two clean databases, the tables in them, and the operations that change them."""

    def __init__(
        self, world: World, data: st.DataObject, stack: ExitStack, small: bool = False
    ) -> None:
        self.world = world
        self.draw = data.draw
        self.source = stack.enter_context(
            psycopg.connect(world.source_admin, autocommit=True, options="-c timezone=UTC")
        )
        self.warehouse = stack.enter_context(
            psycopg.connect(world.warehouse_admin, autocommit=True, options="-c timezone=UTC")
        )
        self.late = stack.enter_context(psycopg.connect(world.source_admin))
        self.late_table = ""
        self.names = 0
        self.failed = False  # whether the next run must be a full refresh
        self.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", *TYPES)
        self.warehouse.execute(
            "DROP SCHEMA IF EXISTS raw_hr CASCADE; DROP SCHEMA IF EXISTS raw_hr_staging CASCADE;"
            " DROP SCHEMA IF EXISTS ops CASCADE"
        )
        self.tables = []
        for table, columns in self.draw(increments() if small else tables(), label="tables"):
            self._create(table, columns)
            self.tables.append(table)

    def sql(self, *statements: str) -> None:
        for statement in statements:
            note(statement)
            self.source.execute(statement.encode())

    def _create(self, table: Table, columns: list[Column]) -> None:
        declared = ", ".join(
            f"{each.name} {each.kind}"
            + (" NOT NULL" if each.name == "at" and not table.nullable else "")
            for each in columns
        )
        key = ", ".join(f"k{place}" for place, _ in enumerate(table.key))
        kind = "UNIQUE" if table.key_in_file else "PRIMARY KEY"
        constraint = f", CONSTRAINT {table.name}_key {kind} ({key})" if key else ""
        self.sql(f"CREATE TABLE {table.name} ({declared}{constraint})")
        numbers = {name: number for number, (name, *_) in self.columns(table).items()}
        table.numbers = {name: numbers[name] for name in numbers if name[0] in "ka"}

    # What is there.

    def columns(self, table: Table) -> Columns:
        """Return name, type and NOT NULL of each column of the source, by number."""
        return {
            number: (name, kind, not_null)
            for number, name, kind, not_null in self.source.execute(
                "SELECT attnum, attname, format_type(atttypid, atttypmod), attnotnull"
                " FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                " AND NOT attisdropped ORDER BY attnum",
                [table.name],
            )
        }

    def key(self, table: Table) -> tuple[str, ...]:
        columns = self.columns(table)
        return tuple(
            columns[table.numbers[name]][0] for name in sorted(table.numbers) if name != "at"
        )

    def rows(self, table: Table) -> list[Row]:
        columns = self.columns(table)
        texts = ", ".join(f"{name}::text" for name, *_ in columns.values())
        found = self.source.execute(f"SELECT {texts} FROM {table.name}".encode())
        return [dict(zip(columns, row, strict=True)) for row in found]

    def published(self, table: Table) -> tuple[dict[str, str], list[tuple[str | None, ...]]]:
        """Return the warehouse's columns and their types, and all rows."""
        columns = dict(
            self.warehouse.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"
                " ORDER BY attname",
                [f"raw_hr.{table.name}"],
            ).fetchall()
        )
        texts = ", ".join(f"{name}::text" for name in columns)
        if not columns:
            return {}, []
        rows = self.warehouse.execute(f"SELECT {texts} FROM raw_hr.{table.name}".encode())
        return columns, rows.fetchall()

    # What happens at the source.

    def settle(self, table: Table | None = None) -> None:
        """Commit what is held open; of a table, where it would lock what comes next."""
        if self.late_table and (table is None or self.late_table == table.name):
            note("-- late: COMMIT")
            self.late.commit()
            self.late_table = ""

    def moved(self, table: Table) -> str:
        """Return the next cursor value: NULL, an odd one, or one that is not below the others."""
        kind = self.columns(table)[table.numbers["at"]][1]
        how = self.draw(st.sampled_from(["tick"] * 7 + ["null", "odd", "odd"]), label="cursor")
        if how == "null" and table.nullable:
            return "NULL"
        if how == "odd" and kind in SPECIAL:
            return f"'{self.draw(st.sampled_from(SPECIAL[kind]))}'"
        table.tick += self.draw(st.sampled_from([1, 0, 2, 5]), label="ticks")
        return table.value(table.tick)

    def literal(self, kind: str, not_null: bool) -> str:
        kind = {
            "character varying(40)": "text",
            "timestamp without time zone": "date",
            "smallint": "boolean",
        }.get(kind, kind)
        values = VALUES[kind] if not_null else st.one_of(st.none(), VALUES[kind])
        value = self.draw(values, label=kind)
        if value is None:
            return "NULL"
        return "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

    def spelt(self, kind: str, number: int) -> str:
        """Return the key's ``number``-th value of a type."""
        match kind:
            case "text":
                return f"'k {number} ɛ'"
            case "numeric":
                return self.draw(st.sampled_from([f"{number}", f"{number}.50"]), label="key")
            case "uuid":
                return f"'00000000-0000-0000-0000-{number:012}'"
            case "mood":
                return "'so so'"
            case "timestamp with time zone":
                return f"'2020-01-01 00:00:00.{number:06}+00'"
        return f"{number}"

    def insert(self, table: Table) -> None:
        self.sql(self._insert(table, table.serial))
        table.serial += 1

    def insert_late(self, table: Table) -> None:
        """Insert a row that nobody sees until it is committed, perhaps some runs later."""
        if self.late_table:
            self.settle()
        else:
            statement = self._insert(table, table.serial)
            note(f"-- late: {statement}")
            self.late.execute(statement.encode())
            self.late_table = table.name
            table.serial += 1

    def insert_old(self, table: Table) -> None:
        """Insert a row under a key that was deleted, if there is one."""
        self.settle(table)
        if table.key and table.serial:
            first = self.draw(st.integers(0, table.serial - 1), label="key")
            for number in (*range(first, table.serial), *range(first)):
                statement = self._insert(table, number) + " ON CONFLICT DO NOTHING"
                if self.source.execute(statement.encode()).rowcount:
                    note(statement)
                    return

    def _insert(self, table: Table, number: int) -> str:
        values = []
        for place, (_, kind, not_null) in self.columns(table).items():
            name = next((each for each, at in table.numbers.items() if at == place), "")
            if name == "at":
                values.append(self.moved(table))
            elif name:
                original = table.key[int(name[1:])]
                values.append(f"({self.spelt(original, number)}::{original})::text::{kind}")
            else:
                values.append(self.literal(kind, not_null))
        return f"INSERT INTO {table.name} VALUES ({', '.join(values)})"

    def insert_again(self, table: Table) -> None:
        """Insert a copy of a row, which only a table without a key can hold."""
        if not table.key:
            self.sql(
                f"INSERT INTO {table.name} SELECT * FROM {table.name} WHERE {self._some(table)}"
            )

    def _some(self, table: Table) -> str:
        """Return the condition for one of the rows, by where it lies."""
        found = self.source.execute(f"SELECT ctid::text FROM {table.name} ORDER BY ctid".encode())
        places = [place for (place,) in found]
        chosen = self.draw(st.sampled_from(places), label="row") if places else "(0,0)"
        return f"ctid = '{chosen}'"

    def update(self, table: Table) -> None:
        columns = self.columns(table)
        sets = [f"{columns[table.numbers['at']][0]} = {self.moved(table)}"]
        for number, (name, kind, not_null) in columns.items():
            if number not in table.numbers.values() and self.draw(st.booleans()):
                sets.append(f"{name} = {self.literal(kind, not_null)}")
        self.sql(f"UPDATE {table.name} SET {', '.join(sets)} WHERE {self._some(table)}")

    def update_key(self, table: Table) -> None:
        if not table.key:
            return
        columns = self.columns(table)
        place, kind = len(table.key) - 1, table.key[-1]
        name, now, _ = columns[table.numbers[f"k{place}"]]
        new = f"({self.spelt(kind, table.serial)}::{kind})::text::{now}"
        table.serial += 1
        if kind == "numeric" and now == "numeric" and self.draw(st.booleans(), label="respell"):
            new = f"round({name}, 3)"  # the same number, written in another way
        self.sql(
            f"UPDATE {table.name} SET {name} = {new},"
            f" {columns[table.numbers['at']][0]} = {self.moved(table)} WHERE {self._some(table)}"
        )

    def delete(self, table: Table) -> None:
        self.sql(f"DELETE FROM {table.name} WHERE {self._some(table)}")

    def truncate(self, table: Table) -> None:
        self.settle(table)
        self.sql(f"TRUNCATE {table.name}")
        table.truncated = True

    def add(self, table: Table) -> None:
        self.settle(table)
        kind = self.draw(st.sampled_from(sorted(VALUES)), label="type")
        default = self.draw(st.sampled_from(["", " DEFAULT 5", " NOT NULL DEFAULT 5"]))
        if kind not in ("integer", "bigint", "numeric", "text"):
            default = ""
        self.names += 1
        self.sql(f"ALTER TABLE {table.name} ADD c_{self.names} {kind}{default}")

    def _plain(self, table: Table) -> dict[int, tuple[str, str, bool]]:
        kept = set(table.numbers.values())
        columns = self.columns(table)
        return {number: columns[number] for number in columns if number not in kept}

    def drop(self, table: Table) -> None:
        self.settle(table)
        if plain := self._plain(table):
            name = self.draw(st.sampled_from(sorted(name for name, *_ in plain.values())))
            self.sql(f"ALTER TABLE {table.name} DROP {name}")

    def rename(self, table: Table) -> None:
        self.settle(table)
        columns = [name for name, *_ in self.columns(table).values()]
        name = self.draw(st.sampled_from(columns), label="column")
        free = sorted({"x", "y", "c0", "c1"} - {*columns})
        if free:
            new = self.draw(st.sampled_from(free), label="name")
            self.sql(f"ALTER TABLE {table.name} RENAME {name} TO {new}")

    def swap(self, table: Table) -> None:
        self.settle(table)
        plain = [name for name, *_ in self._plain(table).values()]
        if len(plain) > 1:
            one, other = plain[:2]
            for old, new in ((one, "tmp"), (other, one), ("tmp", other)):
                self.sql(f"ALTER TABLE {table.name} RENAME {old} TO {new}")

    def retype(self, table: Table) -> None:
        self.settle(table)
        choices = [
            (name, kind, new)
            for number, (name, kind, _) in self.columns(table).items()
            for new in RETYPES.get(kind, ())
            if number not in table.numbers.values()
            or (kind, new) in SAFE_RETYPES
            or (kind == "integer" and number != table.numbers["at"])
        ]
        if choices:
            name, _, new = self.draw(st.sampled_from(choices), label="retype")
            using = f"convert_to({name}, 'UTF8')" if new == "bytea" else f"{name}::text::{new}"
            self.sql(  # no default of the old type is one of every new type
                f"ALTER TABLE {table.name} ALTER {name} DROP DEFAULT,"
                f" ALTER {name} TYPE {new} USING {using}"
            )
            if name == self.columns(table)[table.numbers["at"]][0]:
                table.cursor = new

    def nullable(self, table: Table) -> None:
        self.settle(table)
        if plain := self._plain(table):
            name, _, not_null = self.draw(st.sampled_from(sorted(plain.values())))
            if not_null:
                self.sql(f"ALTER TABLE {table.name} ALTER {name} DROP NOT NULL")
            elif not self.source.execute(
                f"SELECT FROM {table.name} WHERE {name} IS NULL".encode()
            ).fetchall():
                self.sql(f"ALTER TABLE {table.name} ALTER {name} SET NOT NULL")

    # Runs, and what must be there after them.

    def rule(self, table: Table) -> str:
        columns = self.columns(table)
        lines = [f"name: public.{table.name}", f"load: {table.load}"]
        if table.key_in_file:
            lines.append(f"key: [{', '.join(self.key(table))}]")
        lines += [f"deletes: {table.deletes}", f"on_schema_change: {table.on_schema_change}"]
        if table.load != "full" and table.cursor_in_file:
            lines.append(f"cursor: {columns[table.numbers['at']][0]}")
            if table.lookback is not None:
                unit, measure = CURSORS[table.cursor]
                lines.append(f"lookback: {table.lookback * unit}{measure}")
        return "\n    ".join(lines)

    def signature(self, table: Table) -> object:
        return self.columns(table), self.key(table)

    def is_hard(self, table: Table, held: Held) -> bool:
        """Return whether rows that are published cannot keep their values in the new shape."""
        old, new = held.columns, self.columns(table)
        widened = [
            (old[at][1], new[at][1]) for at in old.keys() & new.keys() if old[at][1] != new[at][1]
        ]
        added = {new[at][0] for at in new.keys() - old.keys()}
        left = {name for at, (name, *_) in old.items() if at not in new or new[at][0] != name}
        went = {*held.kept, *(name for at, (name, *_) in old.items() if at not in new)}
        at = table.numbers["at"]
        return bool(
            any(change not in WIDENED for change in widened)
            or any(new[at][2] and not (at in old and old[at][2]) for at in new)
            or added & left
            or {new[at][0] for at in old.keys() & new.keys() if new[at][0] != old[at][0]} & went
            or (added and not table.key)
            or old[at][0] != new[at][0]
        )

    def run(self, *, full_refresh: bool = False) -> None:
        full_refresh, self.failed = full_refresh or self.failed, False
        self.sql(
            "GRANT USAGE ON SCHEMA public TO ingest_reader",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO ingest_reader",
        )
        rules = [self.rule(table) for table in self.tables]
        note("-- run" + (" --full-refresh" if full_refresh else "") + "\n" + "\n".join(rules))
        job = self.world.job(*rules)
        report = Report("hr", job.run_id)
        try:
            run.run(job, Scope(full_refresh=full_refresh, jobs=1), report=report)
        except RunFailedError as error:
            note(str(error))
        loaded = {each.source: each for each in report.loaded}
        assert {each.source for each in report.loaded} | {
            name.replace("raw_hr", "public") for name in report.failed
        } == {f"public.{table.name}" for table in self.tables}
        for table in self.tables:
            done = loaded.get(f"public.{table.name}")
            if done is None:
                self._check_failed(table, report.failed[f"raw_hr.{table.name}"], full_refresh)
            else:
                note(f"-- {done}")
                self._check(table, done, full_refresh)
        left = self.warehouse.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'raw_hr_staging'::regnamespace"
        ).fetchall()
        # What a table that failed has left there goes with the next run.
        failed = {name.removeprefix("raw_hr.") for name in report.failed}
        assert {name.partition("~")[0] for (name,) in left} <= failed

    def _check_failed(self, table: Table, error: Exception, full_refresh: bool) -> None:
        """A table may fail only for a change that its rule forbids, and stays as it was."""
        held = table.held
        assert isinstance(error, SchemaChangedError), error
        assert held is not None
        assert not full_refresh
        if table.load == "append" and table.truncated and "begins before it" in str(error):
            self.failed = True
            return
        if (
            table.load == "append"
            and not table.key
            and "behind it that are not there" in str(error)
        ):
            # No row says by whom it was written, where it may be added twice.
            assert len(self.rows(table)) > len(held.rows)
            self.failed = True
            return
        assert held.signature != self.signature(table), error
        marks = table.deletes == "mark" and has_other_key(table, held.columns, self.columns(table))
        if table.on_schema_change != "fail" and not marks:
            assert table.load == "append", error
            assert self.is_hard(table, held), error
        self.failed = True
        _, rows = self.published(table)
        assert Counter(rows) == held.raw

    def _now(
        self, table: Table, columns: Columns
    ) -> tuple[list[tuple[Row, bool]], frozenset[str], list[tuple[str | None, ...]]]:
        """Return the published rows, columns that an append kept, and all as it stands there."""
        types, raw = self.published(table)
        expected = {name: _lands(kind) for name, kind, _ in columns.values()}
        if table.deletes == "mark":
            expected["_deleted_at"] = "timestamp with time zone"
        kept = frozenset(types) - expected.keys()
        assert {name: types[name] for name in types if name not in kept} == expected
        if kept:  # nothing of an append goes
            assert table.load == "append"
            assert table.held is not None
            assert kept <= table.held.kept | {name for name, *_ in table.held.columns.values()}
        by_name = {name: number for number, (name, *_) in columns.items()}
        now = []
        for row in raw:
            values = dict(zip(types, row, strict=True))
            deleted = values.pop("_deleted_at", None) is not None
            there = {by_name[name]: value for name, value in values.items() if name in by_name}
            now.append((there, deleted))
        return now, kept, raw

    def _check(self, table: Table, done: Loaded, full_refresh: bool) -> None:
        columns = self.columns(table)
        source = self.rows(table)
        now, kept, raw = self._now(table, columns)
        held = table.held
        signature = self.signature(table)
        unchanged = held is not None and (
            held.source == Counter(map(_frozen, source)) and held.signature == signature
        )
        assert done.rows == sum(not deleted for _, deleted in now)
        if held is not None and held.signature != signature and not full_refresh:
            assert table.on_schema_change != "fail", "a change of shape went through"
        oracle = Oracle(self, table, source, now, signature)
        if table.load == "full" or held is None or full_refresh:
            assert done.load == "full"
        elif held.signature != signature:
            if table.on_schema_change == "refresh" and table.load == "incremental":
                assert done.load == "full"
        elif not (table.truncated and table.load == "incremental"):
            assert done.load == table.load, done.reason
        if done.load == "full":
            lost = held is not None and bool(held.raw) and table.load == "append"
            assert full_refresh or not lost, "rows of an append table were replaced"
            table.first = max(columns)
            oracle.whole()
        elif done.load == "incremental":
            oracle.merged()
        else:
            oracle.appended()
        if unchanged and done.load != "full":
            assert (done.inserted, done.updated, done.deleted) == (0, 0, 0)
        # A row that an append knows already is read, too, and moves the cursor.
        read = [row for row in source if done.load == "full" or oracle.seen(row)]
        newest = max(oracle.known([*(row for row, _ in now), *read]), default=None)
        if held is not None and held.newest is not None and done.load != "full":
            newest = held.newest if newest is None else max(newest, held.newest)
        table.held = Held(
            rows=now,
            columns=columns,
            signature=signature,
            raw=Counter(raw),
            source=Counter(map(_frozen, source)),
            newest=newest,
            kept=kept,
        )
        table.truncated = False


def has_other_key(table: Table, before: Columns, now: Columns) -> bool:
    """Return whether a column of the key has a type that its old values may not fit."""
    keys = {at for name, at in table.numbers.items() if name != "at"} & before.keys() & now.keys()
    kinds = {(before[at][1], now[at][1]) for at in keys if before[at][1] != now[at][1]}
    return not kinds <= {*WIDENED}


def _lands(kind: str) -> str:
    if kind == "regclass":
        return "text"
    return f"raw_hr.{kind}" if kind.split("[", maxsplit=1)[0] in ("mood", "pair", "grade") else kind


def _frozen(row: Row) -> tuple[str | None, ...]:
    return tuple(value for _, value in sorted(row.items()))


class Oracle:
    """Says what one load must have left in the warehouse."""

    def __init__(
        self,
        play: Play,
        table: Table,
        source: list[Row],
        now: list[tuple[Row, bool]],
        signature: object,
    ) -> None:
        self.table, self.source, self.now = table, source, now
        self.columns = play.columns(table)
        held = table.held
        self.before = held.rows if held else []
        self.same_shape = held is not None and held.signature == signature
        self.held_columns = held.columns if held else {}
        self.key_numbers = [at for name, at in sorted(table.numbers.items()) if name != "at"]
        self.at = table.numbers["at"]
        self.newest = held.newest if held else None

    def known(self, rows: Any) -> Iterator[Order]:
        """Yield the values that the next load may begin from."""
        for row in rows:
            text = row.get(self.at)
            if text is None:
                continue
            found = order(text, self.columns[self.at][1])
            future = text.startswith("2200-")
            if (found[0] == 0 and not future) or (found[0] < 0 and self.table.cursor == "numeric"):
                yield found

    def seen(self, row: Row) -> bool:
        """Return whether the load must have read a row of the source."""
        if self.table.load == "incremental" or self.table.key:
            return True  # it is known by the transaction that wrote it
        text = row[self.at]
        if text is None or self.newest is None:
            return True
        unit, measure = CURSORS[self.table.cursor]
        ticks = self.table.lookback
        back = (DEFAULT_LOOKBACK[measure] if ticks is None else ticks) * unit
        return order(text, self.columns[self.at][1]) >= (self.newest[0], self.newest[1] - back)

    def id(self, row: Row) -> tuple[Any, ...]:
        """Return the key of a row; numbers are equal however they are written."""
        found: list[Any] = []
        for number, kind in zip(self.key_numbers, self.table.key, strict=True):
            text = row[number]
            assert text is not None
            numeric = kind in ("numeric", "double precision") and text not in _WORDS
            found.append(Fraction(text) if numeric else text)
        return tuple(found)

    def by_id(self, rows: list[Row]) -> dict[tuple[Any, ...], Row]:
        found = {self.id(row): row for row in rows}
        assert len(found) == len(rows), "a key came twice"
        return found

    def whole(self) -> None:
        live = [row for row, deleted in self.now if not deleted]
        assert_rows(live, self.source)
        marked = [row for row, deleted in self.now if deleted]
        if self.table.deletes != "mark":
            assert not marked
            return
        if has_other_key(self.table, self.held_columns, self.columns):
            assert not marked, "a full refresh, which alone may do this, lets go of them"
            return
        there = self.by_id(self.source)
        before = self.by_id([row for row, _ in self.before])
        wanted = {key: row for key, row in before.items() if key not in there}
        found = self.by_id(marked)
        assert found.keys() == wanted.keys()
        for key, row in found.items():
            self.assert_kept(row, wanted[key])

    def assert_kept(self, row: Row, before: Row, now: Row | None = None) -> None:
        """A row is as it was; its new columns are empty or as its source row has them ``now``."""
        by_name = {self.held_columns[number][0]: text for number, text in before.items()}
        for number, value in row.items():
            if number not in before:
                # Made anew under its name, a column of an append has what it had.
                had = by_name.get(self.columns[number][0])
                assert value in (None, had) or (now is not None and value == now[number])
            elif self.held_columns[number][1] == self.columns[number][1]:
                assert value == before[number]

    def merged(self) -> None:
        now = {self.id(row): (row, deleted) for row, deleted in self.now}
        assert len(now) == len(self.now), "a key came twice"
        before = {self.id(row): (row, deleted) for row, deleted in self.before}
        source = self.by_id(self.source)
        for key, row in source.items():
            if self.seen(row):
                assert key in now, f"{key} is missing"
                assert now[key] == (row, False)
            elif key in before:
                assert key in now, f"{key} went away"
                if now[key][0] != row:
                    self.assert_kept(now[key][0], before[key][0], row)
                if self.table.deletes == "mark":
                    assert not now[key][1]
            elif self.table.deletes != "ignore":
                assert now.get(key) == (row, False)
            elif key in now:
                assert now[key] == (row, False)
        for key in now.keys() - source.keys():
            assert self.table.deletes != "detect", f"{key} is not at the source"
            assert key in before, f"{key} was never there"
            self.assert_kept(now[key][0], before[key][0])
            assert now[key][1] == (self.table.deletes == "mark")
        if self.table.deletes != "detect":
            assert not before.keys() - now.keys(), "rows went away"

    def appended(self) -> None:
        if self.table.key:
            now = self.by_id([row for row, _ in self.now])
            before = self.by_id([row for row, _ in self.before])
            source = self.by_id(self.source)
            for key, row in before.items():
                assert key in now, f"{key} went away"
                self.assert_kept(now[key], row, source.get(key))
            for key, row in source.items():
                if key not in before and (self.seen(row) or key in now):
                    assert now.get(key) == row
            assert now.keys() <= before.keys() | source.keys()
            return
        # Copies of a row are told by the columns that it had all along.
        common = self.columns.keys() & self.held_columns.keys()
        common -= self.grown()

        def count(rows: list[Row]) -> Counter[tuple[str | None, ...]]:
            return Counter(_frozen({at: row[at] for at in common}) for row in rows)

        before_, now_ = (count([row for row, _ in rows]) for rows in (self.before, self.now))
        seen, unseen = (
            count([row for row in self.source if self.seen(row) is whether])
            for whether in (True, False)
        )
        least, most = before_ | seen, before_ | (seen + unseen)
        assert not least - now_, f"missing {least - now_}"
        assert not now_ - most, f"too many {now_ - most}"

    def grown(self) -> set[int]:
        """Return columns that came after the first load: rows of before never got a value."""
        return {number for number in self.columns if number > self.table.first}


def assert_rows(found: list[Row], expected: list[Row]) -> None:
    one, other = Counter(map(_frozen, found)), Counter(map(_frozen, expected))
    assert one == other, f"missing {other - one}\nmore {one - other}"


STEPS = (
    [Play.insert] * 6 + [Play.insert_again, Play.insert_old, Play.insert_late, Play.update] * 3
    + [Play.delete] * 3 + [Play.update_key, Play.truncate]
)  # fmt: skip
SHAPES = [Play.add, Play.drop, Play.rename, Play.swap, Play.retype, Play.nullable]


def play(world: World, data: st.DataObject) -> None:
    with ExitStack() as stack:
        game = Play(world, data, stack)
        # A change of shape has a table loaded anew, which hides what an increment would miss.
        steps = data.draw(st.sampled_from([STEPS, STEPS + SHAPES, STEPS + SHAPES * 3]))
        for table in game.tables:
            for _ in range(data.draw(st.integers(0, 3), label="rows at first")):
                game.insert(table)
        game.run()
        for _ in range(data.draw(st.integers(1, 5), label="rounds")):
            for table in game.tables:
                for _ in range(data.draw(st.integers(0, 4), label="changes")):
                    data.draw(st.sampled_from(steps), label="step")(game, table)
            game.run(full_refresh=data.draw(st.integers(0, 19), label="refresh at 19") == 19)


def play_increments(world: World, data: st.DataObject) -> None:
    with ExitStack() as stack:
        game = Play(world, data, stack, small=True)
        (table,) = game.tables
        game.insert(table)
        game.run()
        for _ in range(data.draw(st.integers(4, 7), label="rounds")):
            if game.late_table and data.draw(st.booleans(), label="commit what is late"):
                game.settle()
            for _ in range(data.draw(st.integers(0, 2), label="changes")):
                data.draw(st.sampled_from(STEPS), label="step")(game, table)
            game.run()


QUICK = settings(
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


@settings(QUICK, max_examples=10)
@given(data=st.data())
def test_every_kind_of_table_converges_on_its_source(world: World, data: st.DataObject) -> None:
    play(world, data)


@settings(QUICK, max_examples=10)
@given(data=st.data())
def test_increments_find_every_change_that_they_promise(world: World, data: st.DataObject) -> None:
    play_increments(world, data)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@settings(QUICK, max_examples=2000)
@given(data=st.data())
def test_every_kind_of_table_converges_in_many_ways(world: World, data: st.DataObject) -> None:
    play(world, data)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@settings(QUICK, max_examples=2000)
@given(data=st.data())
def test_increments_find_every_change_in_many_ways(world: World, data: st.DataObject) -> None:
    play_increments(world, data)

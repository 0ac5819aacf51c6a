"""Which columns of a source table are read and how they land, decided without any database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from frame.failure import Failure
from ingest import classification, hashing, names
from ingest.drift import Shape, ShapeColumn
from ingest.rules import DELETED_AT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.classification import Withheld
    from ingest.rules import TableRule
    from ingest.shapes import Column, TableShape
    from ingest.types import Landing, Landings


# Types of numbers that mean large objects.
_LARGE_OBJECTS = frozenset({"oid", "lo", "public.lo"})


@dataclass(frozen=True)
class ColumnPlan:
    """One column: its name, the warehouse's type for it, and how the source gives it.

    ``cast`` is the type to which it casts, if any; of a column that is hashed ``hash_of`` is its
    own type, without modifiers.
    """

    name: str
    lands: str
    not_null: bool
    cast: str = ""
    hash_of: str = ""

    @property
    def select(self) -> sql.Composable:
        """The source's expression for it."""
        column = sql.Identifier(self.name)
        if self.hash_of:
            return hashing.expression(column, self.hash_of)
        return sql.SQL("{}::{}").format(column, sql.SQL(self.cast)) if self.cast else column


@dataclass(frozen=True)
class Projection:
    """What is read of one table: its columns in order, its key, and the shape to remember it by.

    ``why_text`` names the first column that binary COPY cannot carry, empty if it carries all;
    ``notes`` say what is withheld although the file does not name it, and what does not come along.
    """

    columns: tuple[ColumnPlan, ...]
    key: tuple[str, ...]
    shape: Shape
    why_text: str
    notes: tuple[str, ...] = ()


def project(
    rule: TableRule,
    table: TableShape,
    landings: Landings,
    hashed: str = "",
    before: Shape | None = None,
) -> Projection:
    """Return what ``rule`` reads of ``table``; ``hashed`` is the mark of the key for hashes.

    ``before`` is the shape of that same table at its last load. Raises Failure if the rule names
    a column that is not there, or there is no key where one is needed.
    """
    relation = table.relation
    withheld = classification.classify(rule.columns, table.columns, before)
    columns = _columns(rule, table, withheld)
    for name in (relation.name, *(column.name for column in columns)):
        _check_name(table, name)
    if rule.deletes == "mark" and DELETED_AT in {column.name for column in columns}:
        raise Failure(
            f"table {relation}: expected no column {DELETED_AT} for deletes: mark, which adds it",
            hint="Exclude the source's own, or choose another way for deletes.",
        )
    if rule.cursor in withheld:
        raise Failure(
            f"table {relation}: expected the cursor {rule.cursor} to leave the source as it is,"
            f" found that {withheld[rule.cursor].describe(rule.cursor)}",
            hint="Name another cursor, or the column's present name in columns.",
        )
    # Rows that are marked have no value in a column that came after they went.
    marks = rule.deletes == "mark"
    for column in columns:
        if not _hashes(withheld, column):
            _check_type(table, column, landings)
    # In the order of the columns: landings make types as they are met.
    landed = [(column, landings.of(column.type)) for column in columns]
    key = _key(rule, table, {column.name for column in columns})
    remembered = tuple(
        _remembered(column, landing, landings, hashed if _hashes(withheld, column) else "")
        for column, landing in landed
    )
    source = names.display(relation.schema, relation.name)
    return Projection(
        columns=tuple(
            _planned(
                column,
                landing,
                not_null=column.not_null and not marks,
                hash_of=landings.base(column.type.oid) if _hashes(withheld, column) else "",
            )
            for column, landing in landed
        ),
        key=key,
        shape=Shape(
            source,
            relation.oid,
            remembered,
            key,
            tuple(withheld.values()),
            marks=marks,
            appends=rule.load == "append",
        ),
        why_text=_why_text(landed, withheld),
        notes=(
            *(each.describe(name) for name, each in withheld.items() if each.name != name),
            *(
                f"column {column.name}: large objects that its numbers mean are not read"
                for column in columns
                if column.type.declaration in _LARGE_OBJECTS
            ),
        ),
    )


def _check_name(table: TableShape, name: str) -> None:
    # A database of single bytes has names of more bytes in UTF-8, which the warehouse would cut.
    try:
        names.check_length(name)
    except ValueError as error:
        raise Failure(
            f"table {table.relation}: {name}: {error} in UTF-8",
            hint="Name it by a view at the source that has a shorter one, or leave it out: a column"
            " by columns, a table by except.",
        ) from None


def _check_type(table: TableShape, column: Column, landings: Landings) -> None:
    long = sorted(landings.long_names(column.type.oid))
    if long:
        raise Failure(
            f"table {table.relation}: column {column.name}: expected names in its type"
            f" {column.type.declaration} of at most {names.MAX_BYTES} bytes in UTF-8,"
            f" found {', '.join(long)}",
            hint="Give it shorter ones at the source, cast the column to text in a view there, or"
            " leave it out by columns.",
        )


def _hashes(withheld: Mapping[str, Withheld], column: Column) -> bool:
    return column.name in withheld and withheld[column.name].how == "hash"


def _planned(column: Column, landing: Landing, *, not_null: bool, hash_of: str) -> ColumnPlan:
    if hash_of:
        return ColumnPlan(column.name, "text", not_null, hash_of=hash_of)
    return ColumnPlan(column.name, landing.declaration, not_null, landing.cast or "")


def _remembered(column: Column, landing: Landing, landings: Landings, hashed: str) -> ShapeColumn:
    return ShapeColumn(
        name=column.name,
        type=column.type.declaration,
        lands="text" if hashed else landing.declaration,
        not_null=column.not_null,
        number=column.number,
        hashed=hashed,
        labels=() if hashed else tuple(sorted(landings.labels(column.type.oid))),
        filled=column.filled,
        computed=column.computed,
    )


def _why_text(landed: list[tuple[Column, Landing]], withheld: Mapping[str, Withheld]) -> str:
    if not landed:
        return "a table without columns"
    for column, landing in landed:
        if not (landing.binary or _hashes(withheld, column)):
            return f"column {column.name} ({column.type.declaration})"
    return ""


def _columns(
    rule: TableRule, table: TableShape, withheld: Mapping[str, Withheld]
) -> tuple[Column, ...]:
    # A name that the file has for a column is there wherever that column is.
    known = {column.name for column in table.columns} | {each.name for each in withheld.values()}
    checks = rule.checks
    named = {
        "columns.only": rule.columns.only or (),
        "columns.exclude": rule.columns.exclude,
        "columns.hash": rule.columns.hash,
        "checks.nulls": checks.nulls,
        "checks.unique": tuple(column for columns in checks.unique for column in columns),
        "checks.accepted": checks.accepted,
        "checks.freshness": (checks.freshness.column,) if checks.freshness else (),
    }
    out = {name for name, each in withheld.items() if each.how != "hash"}
    kept = {column.name for column in table.columns} - out
    for what, wanted in named.items():
        missing = {*wanted} - (kept if what.startswith("checks") else known)
        # A pattern's rule says what is so wherever there is such a column.
        if missing and not rule.table.pattern:
            raise Failure(
                f"table {table.relation}: {what}: expected its columns"
                f" {', '.join(sorted(kept))}, found {', '.join(sorted(missing))}",
                hint="Mend the name in the pipeline file; case matters here.",
            )
    return tuple(column for column in table.columns if column.name in kept)


def _key(rule: TableRule, table: TableShape, kept: set[str]) -> tuple[str, ...]:
    key = table.primary_key if rule.key is None else rule.key
    missing = [name for name in key if name not in kept]
    if rule.key and missing:
        raise Failure(
            f"table {table.relation}: key: expected its columns, found {', '.join(missing)}",
            hint="Mend the key in the pipeline file; case matters here.",
        )
    key = () if missing else key
    if not key and (rule.load == "incremental" or rule.deletes != "ignore"):
        raise Failure(
            f"table {table.relation}: expected a key for"
            f" {'load: incremental' if rule.load == 'incremental' else 'deletes: ' + rule.deletes},"
            " found no primary key",
            hint="Name the columns that tell its rows apart in key, or use load: full.",
        )
    return key

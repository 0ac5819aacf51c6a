"""Which columns of a source table are read and how they land, decided without any database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from frame.failure import Failure
from ingest import names
from ingest.drift import Shape, ShapeColumn
from ingest.rules import DELETED_AT

if TYPE_CHECKING:
    from ingest.rules import TableRule
    from ingest.shapes import Column, TableShape
    from ingest.types import Landing, Landings


@dataclass(frozen=True)
class ColumnPlan:
    """One column: its name, the source's expression for it, the warehouse's type for it."""

    name: str
    select: str
    lands: str
    not_null: bool


@dataclass(frozen=True)
class Projection:
    """What is read of one table: its columns in order, its key, and the shape to remember it by.

    ``why_text`` names the first column that binary COPY cannot carry, empty if it carries all.
    """

    columns: tuple[ColumnPlan, ...]
    key: tuple[str, ...]
    shape: Shape
    why_text: str


def project(rule: TableRule, table: TableShape, landings: Landings, hashed: str = "") -> Projection:
    """Return what ``rule`` reads of ``table``; ``hashed`` is the mark of the key for hashes.

    Raises Failure if the rule names a column that is not there, or there is no key where one
    is needed.
    """
    relation = table.relation
    columns = _columns(rule, table)
    if rule.deletes == "mark" and DELETED_AT in {column.name for column in columns}:
        raise Failure(
            f"table {relation}: expected no column {DELETED_AT} for deletes: mark, which adds it",
            hint="Exclude the source's own, or choose another way for deletes.",
        )
    # In the order of the columns: landings make types as they are met.
    landed = [(column, landings.of(column.type)) for column in columns]
    key = _key(rule, table, {column.name for column in columns})
    withheld = tuple(sorted(rule.columns.withheld & {column.name for column in table.columns}))
    remembered = tuple(
        _remembered(rule, column, landing, landings, hashed) for column, landing in landed
    )
    source = names.display(relation.schema, relation.name)
    return Projection(
        columns=tuple(_planned(rule, column, landing) for column, landing in landed),
        key=key,
        shape=Shape(
            source,
            relation.oid,
            remembered,
            key,
            withheld,
            marks=rule.deletes == "mark",
            appends=rule.load == "append",
        ),
        why_text=_why_text(rule, landed),
    )


def _planned(rule: TableRule, column: Column, landing: Landing) -> ColumnPlan:
    # Rows that are marked have no value in a column that came after they went.
    not_null = column.not_null and rule.deletes != "mark"
    expression = names.quote(column.name)
    if column.name in rule.columns.hash:
        return ColumnPlan(column.name, _hmac(expression), "text", not_null)
    if landing.cast:
        expression += f"::{landing.cast}"
    return ColumnPlan(column.name, expression, landing.declaration, not_null)


def _remembered(
    rule: TableRule, column: Column, landing: Landing, landings: Landings, hashed: str
) -> ShapeColumn:
    is_hash = column.name in rule.columns.hash
    return ShapeColumn(
        name=column.name,
        type=column.type.declaration,
        lands="text" if is_hash else landing.declaration,
        not_null=column.not_null,
        number=column.number,
        hashed=hashed if is_hash else "",
        labels=() if is_hash else tuple(sorted(landings.labels(column.type.oid))),
        filled=column.filled,
    )


def _why_text(rule: TableRule, landed: list[tuple[Column, Landing]]) -> str:
    if not landed:
        return "a table without columns"
    for column, landing in landed:
        if not (landing.binary or column.name in rule.columns.hash):
            return f"column {column.name} ({column.type.declaration})"
    return ""


def _columns(rule: TableRule, table: TableShape) -> tuple[Column, ...]:
    known = {column.name for column in table.columns}
    checks = rule.checks
    named = {
        "columns.exclude": rule.columns.exclude,
        "columns.hash": rule.columns.hash,
        "checks.nulls": checks.nulls,
        "checks.unique": tuple(column for columns in checks.unique for column in columns),
        "checks.accepted": checks.accepted,
        "checks.freshness": (checks.freshness.column,) if checks.freshness else (),
    }
    kept = known - {*rule.columns.exclude}
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
    key = rule.key or table.primary_key
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


def _hmac(expression: str) -> str:
    """Return HMAC-SHA256 (RFC 2104) of a column, from what its session was given as settings."""
    inner, outer = (
        f"decode(current_setting('harmattan.{pad}_pad'), 'hex')" for pad in ("inner", "outer")
    )
    message = f"convert_to({expression}::text, 'UTF8')"
    return f"encode(sha256({outer} || sha256({inner} || {message})), 'hex')"

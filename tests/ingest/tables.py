"""Rules, source tables and what the warehouse holds of them, as tests of decisions build them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ingest.contract import Pipeline
from ingest.origin import Leaf, Moment, Origin
from ingest.plan import State
from ingest.rules import TableRule
from ingest.shapes import (
    Column,
    Relation,
    SourceType,
    TableShape,
    TypeReference,
    WarehouseTypes,
)
from ingest.types import Landings

if TYPE_CHECKING:
    from ingest.drift import Shape

MOMENT = Moment("7301", 1, 16384, oldest=1000, newest=1000)
# Declarations, as format_type writes them, by pg_type.typname.
BUILTIN = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "numeric": "numeric",
    "float8": "double precision",
    "text": "text",
    "varchar": "character varying",
    "bool": "boolean",
    "date": "date",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "xml": "xml",
    "regclass": "regclass",
}
MOOD = SourceType(900, "public", "mood", "e", labels=("calm", "glad"))
POINT = SourceType(901, "public", "point2", "c", attributes=(("x", TypeReference(1, "smallint")),))
TYPES = {
    **{oid: SourceType(oid, "pg_catalog", name, "b") for oid, name in enumerate(BUILTIN, start=1)},
    MOOD.oid: MOOD,
    POINT.oid: POINT,
}
_OIDS = {declaration: oid for oid, declaration in enumerate(BUILTIN.values(), start=1)} | {
    MOOD.name: MOOD.oid,
    POINT.name: POINT.oid,
}


def column(
    name: str, declaration: str = "integer", number: int = 0, *, not_null: bool = False
) -> Column:
    """Return a column of a built-in type, with or without a modifier, or of MOOD or POINT."""
    head, bracket, tail = declaration.partition("(")
    bare = head + tail.partition(")")[2] if bracket else declaration
    return Column(name, TypeReference(_OIDS[bare], declaration), not_null, number)


def table(
    *columns: Column,
    key: tuple[str, ...] = ("id",),
    name: str = "staff",
    oid: int = 7,
    origin: Origin | None = None,
    **relation: Any,
) -> TableShape:
    """Return an ordinary table whose columns are numbered in order, unless they say otherwise."""
    numbered = tuple(
        replace(each, not_null=each.not_null or each.name in key, number=each.number or place)
        for place, each in enumerate(columns, start=1)
    )
    found = Relation(
        oid, "public", name, **{"kind": "r", "readable": True, "heap": True, **relation}
    )
    unique = (frozenset(key),) if key else ()
    here = origin or Origin(MOMENT, oid, (Leaf(oid, oid),))
    return TableShape(found, numbered, key, unique, origin=here)


def rule(**keys: Any) -> TableRule:
    """Return a table's rule, as a pipeline file says it."""
    return TableRule.model_validate({"name": "public.staff", **keys})


def pipeline(*rules: TableRule) -> Pipeline:
    """Return a pipeline of ``rules`` that publishes into raw_hr."""
    return Pipeline(
        source="hr", schema="raw_hr", schedule="@daily", owner="analysts", tables=rules or (rule(),)
    )


def warehouse_types(**more: Any) -> WarehouseTypes:
    """Return what a warehouse of the source's own version offers."""
    return WarehouseTypes(builtin=frozenset(BUILTIN), **more)


def landings(*tables: str, **more: Any) -> Landings:
    """Return where columns land in such a warehouse."""
    return Landings("raw_hr", TYPES, warehouse_types(**more), frozenset(tables or ("staff",)))


def state(
    shape: Shape,
    cursor: str | None = None,
    value: str | None = None,
    rows: int = 10,
    origin: Origin | None = None,
) -> State:
    """Return what the warehouse holds of a table that was published with ``shape``."""
    return State("load-1", shape, cursor, value, rows, origin)

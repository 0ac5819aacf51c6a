"""How a source column lands in the warehouse: the same type, or text where that is not there.

Everything travels in COPY's text format, which is each type's own input and output, so text is a
faithful landing place for any type: it holds what ``::text`` shows at the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.shapes import SourceType, TableShape, WarehouseTypes

# Built-in types whose values mean something only inside their own database (names of its objects
# and roles), or have no input function.
_LOCAL_TYPES = frozenset(
    {"aclitem", "gtsvector", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list"}
)


@dataclass(frozen=True)
class Landing:
    """The column's type in the warehouse, and the cast to read it with, if it needs one."""

    declaration: sql.Composable
    cast: str | None = None


@dataclass(frozen=True)
class EnumPlan:
    """Enum types to land in: (published schema's) name to labels, those to create, labels to add.

    ``additions`` are (type, label, the label before it or None for the first place).
    """

    usable: dict[str, tuple[str, ...]]
    create: tuple[str, ...]
    additions: tuple[tuple[str, str, str | None], ...]


def builtin_declarations(shapes: Iterable[TableShape]) -> tuple[str, ...]:
    """Return the declarations of built-in types that the warehouse should be asked about."""
    return tuple(
        sorted(
            {
                column.type.declaration
                for shape in shapes
                for column in shape.columns
                if _is_builtin(column.type)
            }
        )
    )


def plan_enums(shapes: Iterable[TableShape], warehouse: WarehouseTypes) -> EnumPlan:
    """Decide which of the source's enum types the warehouse can have, new or grown.

    A type there is used if the labels that both know stand in the same order: missing ones are
    added, ones that the source dropped stay. Two enums of one name: the first one gets it.
    """
    shapes = tuple(shapes)
    tables = {shape.relation.name for shape in shapes}
    wanted: dict[str, SourceType] = {}
    for shape in shapes:
        for column in shape.columns:
            if column.type.kind == "e":
                wanted.setdefault(column.type.name, column.type)
    usable: dict[str, tuple[str, ...]] = {}
    create: list[str] = []
    additions: list[tuple[str, str, str | None]] = []
    for name, enum in sorted(wanted.items()):
        there = warehouse.enums.get(name)
        if name in warehouse.other or (name in tables and there is None):
            continue
        if there is None:
            create.append(name)
        else:
            shared = [label for label in there if label in enum.labels]
            if shared != [label for label in enum.labels if label in there]:
                continue
            additions += [
                (name, label, enum.labels[place - 1] if place else None)
                for place, label in enumerate(enum.labels)
                if label not in there
            ]
        usable[name] = enum.labels
    return EnumPlan(usable, tuple(create), tuple(additions))


def landing(
    source: SourceType, *, schema: str, enums: EnumPlan, warehouse: WarehouseTypes
) -> Landing:
    """Return where a column of type ``source`` lands, enums being those of ``schema``."""
    if _is_builtin(source):
        if source.declaration not in warehouse.builtin:
            return Landing(sql.SQL("text"))
        cast = None
        if source.name == "xml":  # xml's output drops the encoding declaration, its cast does not
            cast = "text[]" if source.array else "text"
        return Landing(sql.SQL(source.declaration), cast)
    suffix = sql.SQL("[]" if source.array else "")
    if source.kind == "e" and enums.usable.get(source.name) == source.labels:
        return Landing(sql.Identifier(schema, source.name) + suffix)
    home = warehouse.extensions.get((source.extension or "", source.name))
    if home is not None:
        return Landing(sql.Identifier(home, source.name) + suffix)
    return Landing(sql.SQL("text"))


def _is_builtin(source: SourceType) -> bool:
    return (
        source.schema == "pg_catalog"
        and source.kind in "brm"
        and not source.name.startswith("reg")
        and source.name not in _LOCAL_TYPES
    )

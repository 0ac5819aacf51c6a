"""The shape of source tables, as the catalogue reads it and the plan uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ingest import names

# relkind: ordinary, partitioned, view, materialised view, foreign
Kind = Literal["r", "p", "v", "m", "f"]


@dataclass(frozen=True)
class Relation:
    """One table or view of the source, before its columns are read."""

    oid: int
    schema: str
    name: str
    kind: Kind
    readable: bool
    partition: bool = False
    extension: bool = False

    @property
    def is_table(self) -> bool:
        """Whether a pattern means it: an ordinary or a whole partitioned table."""
        return self.kind in "rp" and not self.partition and not self.extension

    def __str__(self) -> str:
        return names.display(self.schema, self.name)


@dataclass(frozen=True)
class SourceType:
    """A column's type, domains replaced by what they are made of.

    For an array ``schema``, ``name`` and ``kind`` (pg_type.typtype) are those of its elements.
    """

    declaration: str  # as format_type writes it
    schema: str
    name: str
    kind: str
    array: bool = False
    extension: str | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One column of a source table."""

    name: str
    type: SourceType
    not_null: bool = False


@dataclass(frozen=True)
class TableShape:
    """One source table: its columns in order and its primary key, empty if it has none."""

    relation: Relation
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()


@dataclass(frozen=True)
class WarehouseTypes:
    """What the warehouse offers to land columns in."""

    builtin: frozenset[str] = frozenset()  # declarations of the source that it understands
    extensions: dict[tuple[str, str], str] = field(default_factory=dict)  # (ext., type): schema
    enums: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of the published schema
    other: frozenset[str] = frozenset()  # names there that are types, but no enums

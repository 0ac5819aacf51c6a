"""The shape of source tables, as the catalogue reads it and the plan uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ingest import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from frame.failure import Failure
    from ingest.origin import Origin
    from ingest.rules import TableRule

# relkind: ordinary, partitioned, view, materialised view, foreign
Kind = Literal["r", "p", "v", "m", "f"]
# What a pattern does not mean, and files load only by name.
NO_TABLES = {"v": "a view", "m": "a materialised view", "f": "a foreign table"}
# typtype: base, composite, domain, enum, range, multirange, pseudo
TypeKind = Literal["b", "c", "d", "e", "r", "m", "p"]


@dataclass(frozen=True)
class Relation:
    """One table or view of the source, before it is locked and its columns are read.

    Of a table with partitions or children ``heap`` tells whether all of them are ordinary.
    """

    oid: int
    schema: str
    name: str
    kind: Kind
    readable: bool
    partition: bool = False
    extension: bool = False
    rows: int = -1  # PostgreSQL's estimate; -1 where it has none
    heap: bool = False

    @property
    def is_table(self) -> bool:
        """Whether a pattern means it: an ordinary or a whole partitioned table."""
        return self.kind in "rp" and not self.partition and not self.extension

    @property
    def needs_name(self) -> bool:
        """Whether a pattern leaves it out because of what it is (NO_TABLES)."""
        return self.kind in NO_TABLES and not self.partition and not self.extension

    def __str__(self) -> str:
        return names.display(self.schema, self.name)


def listed(relations: Iterable[Relation]) -> str:
    """Return ``relations`` that are no tables in one line: each with what it is."""
    return ", ".join(f"{each} ({NO_TABLES[each.kind]})" for each in relations)


@dataclass(frozen=True)
class TypeReference:
    """A use of a type: its oid, and how format_type writes it with its modifier."""

    oid: int
    declaration: str


@dataclass(frozen=True)
class SourceType:
    """One type of the source's catalogue; what does not apply to its kind is empty."""

    oid: int
    schema: str
    name: str
    kind: TypeKind
    element: int = 0  # of an array
    inner: TypeReference | None = None  # of a domain, a range (its subtype), a multirange
    multirange: str = ""  # name of a range's multirange type
    attributes: tuple[tuple[str, TypeReference], ...] = ()
    labels: tuple[str, ...] = ()
    extension: str | None = None
    since: int = 0  # the version of PostgreSQL from which on its bytes mean what they do there


@dataclass(frozen=True)
class Column:
    """One column of a source table; ``number`` (pg_attribute.attnum) outlives a rename.

    ``filled``: it may have come with values for rows that there were, none of which was written
    anew. ``computed`` is the expression of one whose values are stored nowhere, or empty.
    """

    name: str
    type: TypeReference
    not_null: bool = False
    number: int = 0
    filled: bool = False
    computed: str = ""


@dataclass(frozen=True)
class TableShape:
    """One source table: its columns in order and its primary key, empty if it has none.

    ``unique`` are the lists of columns of which the source's indexes let no value come twice;
    ``bytes`` is the size of its rows; of a table with partitions or children, ``blocks`` (of 8 kB)
    is that of the largest.
    """

    relation: Relation
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    unique: tuple[frozenset[str], ...] = ()
    bytes: int = 0
    blocks: int = 0
    origin: Origin = field(kw_only=True)


@dataclass(frozen=True)
class SourceTables:
    """The tables of one run: each one's rule, their shapes in order, the types in them by oid.

    ``closed`` are those that cannot be read now, and why; they have no shape. ``missing`` are
    errors of what the file names and the source has not, by the name that would be published;
    ``left_out`` is what its patterns leave out as it is no table.
    """

    rules: Mapping[Relation, TableRule]
    shapes: tuple[TableShape, ...]
    types: Mapping[int, SourceType]
    closed: Mapping[Relation, Failure] = field(default_factory=dict)
    missing: Mapping[str, Failure] = field(default_factory=dict)
    left_out: tuple[Relation, ...] = ()


@dataclass(frozen=True)
class WarehouseType:
    """A type of the published schema: its kind, its labels, the definition it was made from."""

    kind: str
    labels: tuple[str, ...] = ()
    definition: str = ""


@dataclass(frozen=True)
class WarehouseTypes:
    """What the warehouse offers to land columns in."""

    builtin: frozenset[str] = frozenset()  # declarations of the source that it understands
    extensions: dict[tuple[str, str], str] = field(default_factory=dict)  # (ext., type): schema
    installable: frozenset[str] = frozenset()  # extensions that our role may create
    here: dict[str, WarehouseType] = field(default_factory=dict)  # types of the published schema
    version: int = 0  # of PostgreSQL

"""What changed in a table's shape since it was last published, decided without any database."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

from ingest.classification import Withheld

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class ShapeColumn:
    """One column as it was published.

    ``type`` is the source's, ``lands`` the warehouse's; ``number`` is the source's attnum, by
    which a rename is known; ``hashed`` is a mark of the key that hashed it, empty if none did;
    ``labels`` are those of the enums in its values; ``computed`` is the expression that makes them
    as they are read.
    """

    name: str
    type: str
    lands: str
    not_null: bool
    number: int
    hashed: str = ""
    labels: tuple[str, ...] = ()
    filled: bool = False
    computed: str = ""


def _withheld(value: Any) -> Any:
    """Return columns that an older release wrote, names without numbers, as they are now."""
    return tuple(Withheld(0, each, "exclude") if isinstance(each, str) else each for each in value)


@dataclass(frozen=True)
class Shape:
    """The contract of one published table: where it comes from, its columns in order, its key.

    ``withheld`` are the source's columns that were hashed or left out; ``kept`` are those that left
    the source and stay, as nothing of an append goes. ``marks`` and ``appends`` say how rows that
    go, or change, were treated; None in what an older release wrote.
    """

    source: str
    oid: int
    columns: tuple[ShapeColumn, ...]
    key: tuple[str, ...]
    withheld: Annotated[tuple[Withheld, ...], BeforeValidator(_withheld)] = ()
    kept: tuple[ShapeColumn, ...] = ()
    marks: bool | None = None
    appends: bool | None = None


SHAPE = TypeAdapter(Shape)  # to and from JSON, for ops.shapes


@dataclass(frozen=True)
class Drift:
    """The differences between the last published shape and the source's."""

    added: tuple[ShapeColumn, ...] = ()
    dropped: tuple[ShapeColumn, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()  # (old, new)
    retyped: tuple[tuple[ShapeColumn, ShapeColumn], ...] = ()  # (old, new), by the new name
    nullable: tuple[ShapeColumn, ...] = ()  # the new ones
    replaced: tuple[tuple[ShapeColumn, ShapeColumn], ...] = ()  # (old, new), of one name
    gone: frozenset[str] = frozenset()  # names that an append keeps for what left the source
    rekeyed: tuple[tuple[str, ...], tuple[str, ...]] | None = None  # (old, new)
    treated: str = ""  # how rows that go, or change, were treated and no longer are
    moved: tuple[str, str] | None = None  # another source table

    def __bool__(self) -> bool:
        return bool(self.describe())

    @property
    def unfit(self) -> frozenset[str]:
        """The columns, by their new names, that old values do not fit."""
        pairs = (*self.retyped, *self.replaced)
        return frozenset(new.name for old, new in pairs if not fits(old, new))

    @property
    def before(self) -> dict[str, str]:
        """The old names of columns that have another, by the new ones."""
        return {new: old for old, new in self.renamed}

    def describe(self) -> tuple[str, ...]:
        """Return one line a difference, for people and for ops.shapes."""
        lines = [f"column {column.name} added ({column.type})" for column in self.added]
        lines += [f"column {column.name} dropped" for column in self.dropped]
        lines += [f"column {old} renamed to {new}" for old, new in self.renamed]
        lines += [_change(old, new) for old, new in self.retyped]
        lines += [f"column {new.name} made anew ({new.type})" for _, new in self.replaced]
        lines += [
            f"column {column.name} {'became NOT NULL' if column.not_null else 'may be NULL now'}"
            for column in self.nullable
        ]
        return (*lines, *self._key_and_source())

    def needs_rows(self, *, appends: bool = False) -> tuple[str, ...]:
        """Return why altering the published table is not enough, one line each.

        To one that ``appends`` no row comes again: what its columns have stays, if it fits.
        """
        lines = [_change(old, new) for old, new in self.retyped if not widens(old, new)]
        lines += [
            f"column {column.name} became NOT NULL" for column in self.nullable if column.not_null
        ]
        lines += [
            f"column {column.name} added as NOT NULL" for column in self.added if column.not_null
        ]
        lines += [
            f"column {column.name} added ({column.type}) with a value"
            for column in self.added
            if column.filled and not (column.not_null or appends)
        ]
        lines += [
            f"column {new.name} was made anew as {new.type}"
            for old, new in self.replaced
            if not (appends and fits(old, new))
        ]
        if appends:
            lines += [
                f"column {old} took the name of {new}, which went"
                for old, new in self.renamed
                if new in self.gone
            ]
        return (*lines, *self._key_and_source())

    def _key_and_source(self) -> list[str]:
        lines = []
        if self.rekeyed:
            old, new = (f"({', '.join(key)})" if key else "none" for key in self.rekeyed)
            lines.append(f"key changed from {old} to {new}")
        if self.treated:
            lines.append(self.treated)
        if self.moved:
            lines.append(f"source changed from {self.moved[0]} to {self.moved[1]}")
        return lines


def compare(old: Shape, new: Shape, *, same_table: bool = True) -> Drift:
    """Return what is different in ``new``.

    A column is the same one by its number, where both are of the ``same_table``, or else by its
    name. One of another number has taken the place of the one that had its name.
    """
    same_table = same_table and old.oid == new.oid
    by_number = {column.number: column for column in old.columns} if same_table else {}
    by_name = {column.name: column for column in old.columns}
    numbers = {column.number for column in new.columns}
    pairs: list[tuple[ShapeColumn, ShapeColumn]] = []
    replaced: list[tuple[ShapeColumn, ShapeColumn]] = []
    added: list[ShapeColumn] = []
    back = {column.name: column for column in old.kept}
    held = {each.number or each.name for each in old.withheld}  # whose values nobody has read
    for column in new.columns:
        before = by_number.get(column.number) if same_table else by_name.get(column.name)
        left = by_name.get(column.name)
        if before is not None:
            pairs.append((before, column))
        elif left is not None and left.number not in numbers:
            replaced.append((left, column))
        elif column.name in back:
            replaced.append((back[column.name], column))
        else:
            had = column.filled or not held.isdisjoint((column.number, column.name))
            added.append(replace(column, filled=had))
    met = {before.name for before, _ in (*pairs, *replaced)}
    dropped = tuple(column for column in old.columns if column.name not in met)
    renamed = tuple(
        (before.name, after.name) for before, after in pairs if before.name != after.name
    )
    key = tuple(dict(renamed).get(name, name) for name in old.key)
    # A column that took the name of one that went is not the one that told rows apart.
    same_key = key == new.key and {*old.key} <= {before.name for before, _ in pairs}
    return Drift(
        added=tuple(added),
        dropped=dropped,
        renamed=renamed,
        replaced=tuple(replaced),
        gone=frozenset(column.name for column in (*old.kept, *dropped)),
        retyped=tuple(
            (before, after)
            for before, after in pairs
            # A label that went is one that is called otherwise now, and old rows have it.
            if not (
                _alike(before, after)
                and before.computed == after.computed
                and {*before.labels} <= {*after.labels}
            )
        ),
        nullable=tuple(after for before, after in pairs if before.not_null is not after.not_null),
        rekeyed=None if same_key else (old.key, new.key),
        treated=_treated(old, new),
        moved=None if old.source == new.source else (old.source, new.source),
    )


def renamed(shape: Shape, declarations: Mapping[str, str]) -> Shape:
    """Return ``shape`` as its columns are when types of the warehouse have got other names."""
    if not declarations:
        return shape
    new = {f"{old}{array}": f"{name}{array}" for old, name in declarations.items()
           for array in ("", "[]")}  # fmt: skip
    columns, kept = (
        tuple(replace(column, lands=new.get(column.lands, column.lands)) for column in side)
        for side in (shape.columns, shape.kept)
    )
    return replace(shape, columns=columns, kept=kept)


def _treated(old: Shape, new: Shape) -> str:
    if old.marks is not None and old.marks is not new.marks:
        return f"deletes changed {'to' if new.marks else 'from'} mark"
    if old.appends and not new.appends:
        return "load changed from append"
    return ""


_INTEGERS = ("smallint", "integer", "bigint")
_VARCHAR = re.compile(r"character varying(?:\((\d+)\))?")


def widens(old: ShapeColumn, new: ShapeColumn) -> bool:
    """Return whether every value of ``old`` keeps its text when altered to ``new``."""
    if old.hashed or new.hashed or old.computed != new.computed:
        return False
    if old.lands in _INTEGERS and new.lands in _INTEGERS:
        return _INTEGERS.index(old.lands) < _INTEGERS.index(new.lands)
    before, after = _VARCHAR.fullmatch(old.lands), _VARCHAR.fullmatch(new.lands)
    if before and after:
        return after[1] is None or (before[1] is not None and int(before[1]) <= int(after[1]))
    return before is not None and new.lands == "text" and new.type == "text"


def fits(old: ShapeColumn, new: ShapeColumn) -> bool:
    """Return whether values of ``old`` may stay in ``new``, even with labels of old names."""
    return widens(old, new) or _alike(old, new)


def _alike(old: ShapeColumn, new: ShapeColumn) -> bool:
    return (old.type, old.lands, old.hashed) == (new.type, new.lands, new.hashed)


def _change(old: ShapeColumn, new: ShapeColumn) -> str:
    if (old.type, old.hashed) == (new.type, new.hashed) and (lost := {*old.labels} - {*new.labels}):
        return f"column {new.name} lost its labels {', '.join(sorted(lost))}"
    return f"column {new.name} changed from {_type(old)} to {_type(new)}"


def _type(column: ShapeColumn) -> str:
    if column.hashed:
        return f"a hash under key {column.hashed}"
    computed = f" computed by {column.computed}" if column.computed else ""
    lands = "" if column.lands == column.type else f" (as {column.lands})"
    return f"{column.type}{computed}{lands}"

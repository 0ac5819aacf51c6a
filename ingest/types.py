"""How a source column lands in the warehouse: as the same type, made there if need be, or as text.

Text is a faithful landing place for any type: it holds what ``::text`` shows at the source.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ingest import names
from ingest.shapes import TypeReference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ingest.shapes import SourceType, WarehouseTypes

EXTENSIONS_SCHEMA = "extensions"  # where extensions go that the warehouse did not have
# Built-in types whose values mean something only inside their own database (names of its objects
# and roles), or have no input function.
_LOCAL_TYPES = frozenset(
    {"aclitem", "gtsvector", "pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list"}
)
# xml's binary form trusts an encoding declaration; the others' one knows no empty value.
_TEXT_ONLY = frozenset({"xml", "int2vector", "oidvector", "tsquery"})
# A type that is ours says in its comment what it was made from: another of its name, from another
# schema of the source, is another type, whichever came first.
_MARK = "harmattan "
_MODIFIER = re.compile(r"\([^()]*\)(?=(?:\[\])*$)")


@dataclass(frozen=True)
class Landing:
    """A column's type in the warehouse.

    ``cast`` is what the source must cast to, if anything. ``binary`` tells whether COPY's binary
    format carries it: the same bytes must mean the same on both sides, so types whose values hold
    oids of types made here do not. ``native`` is False for text in another type's place.
    """

    declaration: str
    cast: str | None = None
    binary: bool = False
    native: bool = True


TEXT = Landing("text", cast="text", binary=True, native=False)


@dataclass(frozen=True)
class TypeStep:
    """One statement that makes the warehouse ready for a type, and the type's name."""

    schema: str
    name: str
    statement: str

    @property
    def declaration(self) -> str:
        """What the declarations of columns of the type begin with."""
        return names.qualified(self.schema, self.name)


class Landings:
    """Decides where types land, and gathers the steps that make their types, in order.

    ``tables`` are names that the published schema needs for tables.
    """

    def __init__(
        self,
        schema: str,
        source: Mapping[int, SourceType],
        warehouse: WarehouseTypes,
        tables: frozenset[str],
    ) -> None:
        self.steps: list[TypeStep] = []
        self._schema = schema
        self._source = source
        self._warehouse = warehouse
        self._here = dict(warehouse.here)
        # The type of arrays of what is called ghost is called _ghost, as a table may be.
        self._taken = set(tables) | {name[1:] for name in tables if name.startswith("_")}
        self._made: dict[int, Landing] = {}
        self._multiranges: dict[int, str] = {}  # by the oid of their range
        self._installed: set[int] = set()
        self._make_room()

    def of(self, used: TypeReference) -> Landing:
        """Return where a column, an attribute or a domain's value of this type lands."""
        found = self._source[used.oid]
        if found.element:
            return self._array(used, self._source[found.element])
        if found.extension:
            return self._of_extension(found, found.extension, used.declaration)
        if found.schema == "pg_catalog":
            return self._builtin(found, used.declaration)
        if found.oid not in self._made:
            self._made[found.oid] = TEXT if self._hides_money(found) else self._make(found)
        return self._made[found.oid]

    def _hides_money(self, found: SourceType) -> bool:
        """Return whether values have money inside, which cannot be cast there."""
        parts = [part for _, part in found.attributes]
        if found.inner and found.kind != "d":
            parts.append(found.inner)
        return any((self.of(part).cast or "").startswith("numeric") for part in parts)

    def base(self, oid: int) -> str:
        """Return the name of a type, or of the one that a domain is of, without its schema."""
        found = self._source[oid]
        while found.kind == "d" and found.inner is not None:
            found = self._source[found.inner.oid]
        return found.name

    def labels(self, oid: int) -> frozenset[str]:
        """Return the labels of all enums that values of a type are made of, as ``type.label``."""
        found = self._source[oid]
        parts = [found.element] if found.element else []
        parts += [each.oid for _, each in found.attributes]
        if found.inner:
            parts.append(found.inner.oid)
        own = frozenset(f"{found.name}.{label}" for label in found.labels)
        return own.union(*map(self.labels, parts))

    def _array(self, used: TypeReference, element: SourceType) -> Landing:
        if element.schema == "pg_catalog":
            inside = self._builtin(element, used.declaration)
            return (
                replace(inside, cast=inside.cast and f"{inside.cast}[]") if inside.native else TEXT
            )
        inside = self.of(TypeReference(element.oid, used.declaration))
        return Landing(inside.declaration + "[]") if inside.native else TEXT

    def _builtin(self, found: SourceType, declaration: str) -> Landing:
        if (
            found.name not in self._warehouse.builtin
            or found.name in _LOCAL_TYPES
            or found.name.startswith("reg")
            or found.kind not in "brm"
        ):
            return TEXT
        if found.name == "money":  # whose digits mean what each server's lc_monetary says
            return Landing(declaration.replace("money", "numeric"), "numeric", binary=True)
        # xml's output drops the encoding declaration, its cast does not.
        cast = "text" if found.name == "xml" else None
        return Landing(declaration, cast, binary=found.name not in _TEXT_ONLY)

    def _of_extension(self, found: SourceType, extension: str, declaration: str) -> Landing:
        home = self._warehouse.extensions.get((extension, found.name))
        if home is None and extension in self._warehouse.installable:
            home = EXTENSIONS_SCHEMA
            if found.oid not in self._installed:  # a step for each type, which tells its own tables
                self._installed.add(found.oid)
                self._step(
                    found.name,
                    f"CREATE EXTENSION IF NOT EXISTS {names.quote(extension)}"
                    f" SCHEMA {names.quote(home)} CASCADE",
                    home,
                )
        if home is None:
            return TEXT
        modifier = _MODIFIER.search(declaration)
        return Landing(f"{self._name(found.name, home)}{modifier[0] if modifier else ''}")

    def _make(self, found: SourceType) -> Landing:
        if found.kind == "e":
            return self._enum(found)
        if found.kind == "c":
            parts = ", ".join(
                f"{names.quote(name)} {self.of(part).declaration}"
                for name, part in found.attributes
            )
            made = self._define([found.name], lambda name: f"CREATE TYPE {name} AS ({parts})")
            return Landing(made[0]) if made else TEXT
        inside = self.of(found.inner) if found.inner else TEXT
        if not inside.native:
            return TEXT
        if found.kind == "d":
            made = self._define(
                [found.name], lambda name: f"CREATE DOMAIN {name} AS {inside.declaration}"
            )
            return Landing(made[0], inside.cast, inside.binary) if made else TEXT
        if found.kind == "r":
            return self._range(found, inside)
        several = self._multiranges.get(found.inner.oid) if found.inner else None
        return Landing(several) if several else TEXT

    def _range(self, found: SourceType, inside: Landing) -> Landing:
        """Make a range type and the multirange that comes with it."""
        made = self._define(
            [found.name, found.multirange],
            lambda name, several: (
                f"CREATE TYPE {name} AS RANGE (subtype = {inside.declaration},"
                f" multirange_type_name = {several})"
            ),
        )
        if not made:
            return TEXT
        self._multiranges[found.oid] = made[1]
        return Landing(made[0])

    def _enum(self, found: SourceType) -> Landing:
        """Use the type that was made for this one if labels of both stand in the same order.

        Missing labels are added, ones that the source dropped stay.
        """
        identity = f"{_MARK}{found.schema}.{found.name}"
        labels = "".join(f"{label}\0" for label in found.labels)
        candidates = _candidates(found.name, identity, identity + labels)
        there = [name for name in candidates if self._is_enum(name, identity, found.labels)]
        # One without a mark was made by an older release.
        for name in sorted(there, key=lambda name: not self._here[name].definition):
            self._taken.add(name)
            if not self._here[name].definition:
                self._step(name, self._marked("TYPE", name, identity))
            self._grow(name, self._here[name].labels, found.labels)
            return Landing(self._name(name), binary=True)
        for name in candidates:
            if name not in self._here and name not in self._taken:
                self._taken.add(name)
                listed = ", ".join(names.literal(label) for label in found.labels)
                create = f"CREATE TYPE {self._name(name)} AS ENUM ({listed})"
                self._step(name, f"{create}; {self._marked('TYPE', name, identity)}")
                return Landing(self._name(name), binary=True)
        return TEXT

    def _is_enum(self, name: str, identity: str, labels: tuple[str, ...]) -> bool:
        there = self._here.get(name)
        if there is None or there.kind != "e" or name in self._taken:
            return False
        shared = [label for label in there.labels if label in labels]
        ours = there.definition == identity or (not there.definition and shared == [*there.labels])
        return ours and shared == [label for label in labels if label in there.labels]

    def _marked(self, kind: str, name: str, mark: str) -> str:
        return f"COMMENT ON {kind} {self._name(name)} IS {names.literal(mark)}"

    def _grow(self, name: str, there: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        before = None
        for label in wanted:
            if label not in there:
                place = (
                    f" AFTER {names.literal(before)}"
                    if before is not None
                    else f" BEFORE {names.literal(there[0])}"
                    if there
                    else ""
                )
                self._step(
                    name,
                    f"ALTER TYPE {self._name(name)} ADD VALUE IF NOT EXISTS"
                    f" {names.literal(label)}{place}",
                )
            before = label

    def _define(self, wanted: list[str], create: Callable[..., str]) -> tuple[str, ...]:
        """Return the full names of what ``create`` makes, which is there or gets a step.

        ``create`` gets them, one for each of ``wanted``; the first is the type's own. There are
        none if all names are somebody else's.
        """
        template = create(*("?" for _ in wanted))
        definition = _MARK + hashlib.sha256(template.encode()).hexdigest()[:16]
        candidates = list(zip(*(_candidates(name, definition) for name in wanted), strict=True))
        for group in candidates:
            there = self._here.get(group[0])
            if there and there.definition == definition and group[0] not in self._taken:
                self._taken |= {*group}
                return tuple(map(self._name, group))
        for group in candidates:
            if self._taken & {*group} or self._here.keys() & {*group}:
                continue
            full = tuple(map(self._name, group))
            kind = "DOMAIN" if template.startswith("CREATE DOMAIN") else "TYPE"
            statement = f"{create(*full)}; {self._marked(kind, group[0], definition)}"
            self._step(group[0], statement)
            self._taken |= {*group}
            return full
        return ()

    def _make_room(self) -> None:
        """Rename types that were made under a name that a table needs now; columns keep them."""
        for name in sorted(self._taken & self._here.keys()):
            mark = self._here[name].definition
            _, other = _candidates(name, mark)
            if mark.startswith(_MARK) and other not in self._here:
                kind = "DOMAIN" if self._here[name].kind == "d" else "TYPE"
                self._step(name, f"ALTER {kind} {self._name(name)} RENAME TO {names.quote(other)}")
                self._here[other] = self._here.pop(name)

    def _step(self, name: str, statement: str, schema: str | None = None) -> None:
        self.steps.append(TypeStep(schema or self._schema, name, statement))

    def _name(self, name: str, schema: str | None = None) -> str:
        return names.qualified(schema or self._schema, name)


def _candidates(name: str, *marks: str) -> tuple[str, ...]:
    """Return the names to try: the source's own, and one that only each of ``marks`` has."""
    digests = (hashlib.sha256(mark.encode()).hexdigest()[:8] for mark in marks)
    return (name, *(names.suffixed(name, f"_{digest}") for digest in digests))

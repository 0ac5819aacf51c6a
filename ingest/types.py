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
        # The type of arrays of what is called ghost is called _ghost, as a table may be.
        self._taken = set(tables) | {name[1:] for name in tables if name.startswith("_")}
        self._made: dict[int, Landing] = {}
        self._multiranges: dict[int, str] = {}  # by the oid of their range
        self._installed: set[int] = set()

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
            self._made[found.oid] = self._make(found)
        return self._made[found.oid]

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
            return replace(inside, cast=inside.cast and "text[]") if inside.native else TEXT
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
            return self._define([found.name], lambda name: f"CREATE TYPE {name} AS ({parts})")
        inside = self.of(found.inner) if found.inner else TEXT
        if not inside.native:
            return TEXT
        if found.kind == "d":
            made = self._define(
                [found.name], lambda name: f"CREATE DOMAIN {name} AS {inside.declaration}"
            )
            alike = replace(made, cast=inside.cast, binary=inside.binary)
            return alike if made.native else TEXT
        if found.kind == "r":
            return self._range(found, inside)
        several = self._multiranges.get(found.inner.oid) if found.inner else None
        return Landing(several) if several else TEXT

    def _range(self, found: SourceType, inside: Landing) -> Landing:
        """Make a range type and the multirange that comes with it."""
        parts: list[str] = []

        def create(name: str, several: str) -> str:
            parts[:] = [several]
            return (
                f"CREATE TYPE {name} AS RANGE (subtype = {inside.declaration},"
                f" multirange_type_name = {several})"
            )

        made = self._define([found.name, found.multirange], create)
        if made.native:
            self._multiranges[found.oid] = parts[0]
        return made

    def _enum(self, found: SourceType) -> Landing:
        """Use a type there if the labels that both know stand in the same order; let it grow.

        Missing labels are added, ones that the source dropped stay.
        """
        for name in _candidates(found.name, "".join(f"{label}\0" for label in found.labels)):
            there = self._warehouse.here.get(name)
            if there is None and name not in self._taken:
                self._taken.add(name)
                labels = ", ".join(names.literal(label) for label in found.labels)
                self._step(name, f"CREATE TYPE {self._name(name)} AS ENUM ({labels})")
                return Landing(self._name(name), binary=True)
            if there is not None and there.kind == "e" and name not in self._taken:
                shared = [label for label in there.labels if label in found.labels]
                if shared == [label for label in found.labels if label in there.labels]:
                    self._taken.add(name)
                    self._grow(name, there.labels, found.labels)
                    return Landing(self._name(name), binary=True)
        return TEXT

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

    def _define(self, wanted: list[str], create: Callable[..., str]) -> Landing:
        """Return the type that ``create`` makes, as it is there or with a step that makes it.

        ``create`` gets full names, one for each of ``wanted``; the first is the type's own.
        """
        template = create(*("?" for _ in wanted))
        definition = "harmattan " + hashlib.sha256(template.encode()).hexdigest()[:16]
        here = self._warehouse.here
        for candidates in zip(*(_candidates(name, definition) for name in wanted), strict=True):
            there = here.get(candidates[0])
            if self._taken & {*candidates} or (there and there.definition != definition):
                continue
            if there is None and any(name in here for name in candidates):
                continue
            full = [self._name(name) for name in candidates]
            statement = create(*full)
            if there is None:
                kind = "DOMAIN" if template.startswith("CREATE DOMAIN") else "TYPE"
                comment = f"COMMENT ON {kind} {full[0]} IS {names.literal(definition)}"
                self._step(candidates[0], f"{statement}; {comment}")
            self._taken |= {*candidates}
            return Landing(full[0])
        return TEXT

    def _step(self, name: str, statement: str, schema: str | None = None) -> None:
        self.steps.append(TypeStep(schema or self._schema, name, statement))

    def _name(self, name: str, schema: str | None = None) -> str:
        return names.qualified(schema or self._schema, name)


def _candidates(name: str, definition: str) -> tuple[str, str]:
    """Return the names to try: the source's own, and one that only this definition has."""
    mark = hashlib.sha256(definition.encode()).hexdigest()[:8]
    return name, names.suffixed(name, f"_{mark}")

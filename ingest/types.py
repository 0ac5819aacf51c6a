"""How a source column lands in the warehouse: as the same type, made there if need be, or as text.

Text is a faithful landing place for any type: it holds what ``::text`` shows at the source.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from ingest import names
from ingest.shapes import TypeReference

if TYPE_CHECKING:
    from collections.abc import Mapping

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
_QUALIFIED = re.compile(r'"(?:[^"]|"")+"\."(?:[^"]|"")+"')


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
    """What makes the warehouse ready for a type, and the type's name.

    ``installs`` tells that it installs the type's extension, which all pipelines share; ``becomes``
    is the declaration that columns of a type that is renamed have from then on.
    """

    schema: str
    name: str
    statement: sql.Composed
    installs: bool = False
    becomes: str = ""

    @property
    def declaration(self) -> str:
        """How columns declare the type, without modifier and brackets (:func:`made`)."""
        return names.qualified(self.schema, self.name)


def made(declaration: str) -> str:
    """Return the type of a column's declaration, or of its arrays' elements, if it is made here.

    Without modifier and brackets; any other declaration comes back as it is.
    """
    qualified = _QUALIFIED.match(declaration)
    return qualified[0] if qualified else declaration


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
        parts = [part.oid for _, part in found.attributes]
        if found.inner and found.kind != "d":
            parts.append(found.inner.oid)
        return any(map(self._is_money, parts))

    def _is_money(self, oid: int) -> bool:
        """Return whether a type is money, or of domains over it and their arrays."""
        found = self._source[oid]
        if found.element:
            return self._is_money(found.element)
        if found.kind == "d" and found.inner:
            return self._is_money(found.inner.oid)
        return (found.schema, found.name) == ("pg_catalog", "money")

    @property
    def renamed(self) -> dict[str, str]:
        """The declarations of types that get another name, by the old ones."""
        return {step.declaration: step.becomes for step in self.steps if step.becomes}

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

    def long_names(self, oid: int) -> frozenset[str]:
        """Return the names that making a type would need and the warehouse would cut.

        They are its own, and those of its attributes and labels and of all that it is made of.
        """
        found = self._source[oid]
        parts = [found.element] if found.element else []
        own: tuple[str, ...] = ()
        if not (found.element or found.extension or found.schema == "pg_catalog"):
            parts += [each.oid for _, each in found.attributes]
            parts += [found.inner.oid] if found.inner else []
            own = (found.name, found.multirange, *(name for name, _ in found.attributes))
        long = frozenset(name for name in (*own, *found.labels) if names.is_long(name))
        return long.union(*map(self.long_names, parts))

    def _array(self, used: TypeReference, element: SourceType) -> Landing:
        if element.schema == "pg_catalog":
            inside = self._builtin(element, used.declaration)
        else:
            inside = self.of(TypeReference(element.oid, used.declaration))
            inside = replace(inside, declaration=inside.declaration + "[]", binary=False)
        return replace(inside, cast=inside.cast and f"{inside.cast}[]") if inside.native else TEXT

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
        known = found.since <= self._warehouse.version
        return Landing(declaration, cast, binary=known and found.name not in _TEXT_ONLY)

    def _of_extension(self, found: SourceType, extension: str, declaration: str) -> Landing:
        home = self._warehouse.extensions.get((extension, found.name))
        if home is None and extension in self._warehouse.installable:
            home = EXTENSIONS_SCHEMA
            if found.oid not in self._installed:  # a step for each type, which tells its own tables
                self._installed.add(found.oid)
                create = sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {} CASCADE").format(
                    sql.Identifier(extension), sql.Identifier(home)
                )
                self.steps.append(TypeStep(home, found.name, create, installs=True))
        if home is None:
            return TEXT
        modifier = _MODIFIER.search(declaration)
        name = names.qualified(home, found.name)
        return Landing(f"{name}{modifier[0] if modifier else ''}")

    def _make(self, found: SourceType) -> Landing:
        if found.kind == "e":
            return self._enum(found)
        if found.kind == "c":
            parts = sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(self.of(part).declaration))
                for name, part in found.attributes
            )
            full = self._define("TYPE", "CREATE TYPE {} AS ({})", [found.name], parts)
            return Landing(full[0]) if full else TEXT
        inside = self.of(found.inner) if found.inner else TEXT
        if not inside.native:
            return TEXT
        of = sql.SQL(inside.declaration)
        if found.kind == "d":
            full = self._define("DOMAIN", "CREATE DOMAIN {} AS {}", [found.name], of)
            return Landing(full[0], inside.cast, inside.binary) if full else TEXT
        if found.kind == "r":
            return self._range(found, of)
        several = self._multiranges.get(found.inner.oid) if found.inner else None
        return Landing(several) if several else TEXT

    def _range(self, found: SourceType, subtype: sql.SQL) -> Landing:
        """Make a range type and the multirange that comes with it."""
        full = self._define(
            "TYPE",
            "CREATE TYPE {0} AS RANGE (subtype = {2}, multirange_type_name = {1})",
            [found.name, found.multirange],
            subtype,
        )
        if not full:
            return TEXT
        self._multiranges[found.oid] = full[1]
        return Landing(full[0])

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
                self._step(name, self._mark("TYPE", name, identity))
            self._grow(name, self._here[name].labels, found.labels)
            return Landing(self._name(name), binary=True)
        for name in candidates:
            if name not in self._here and name not in self._taken:
                self._taken.add(name)
                labels_of = sql.SQL(", ").join(map(sql.Literal, found.labels))
                create = sql.SQL("CREATE TYPE {} AS ENUM ({}); {}").format(
                    self._identifier(name), labels_of, self._mark("TYPE", name, identity)
                )
                self._step(name, create)
                return Landing(self._name(name), binary=True)
        return TEXT

    def _is_enum(self, name: str, identity: str, labels: tuple[str, ...]) -> bool:
        there = self._here.get(name)
        if there is None or there.kind != "e" or name in self._taken:
            return False
        shared = [label for label in there.labels if label in labels]
        ours = there.definition == identity or (not there.definition and shared == [*there.labels])
        return ours and shared == [label for label in labels if label in there.labels]

    def _mark(self, kind: LiteralString, name: str, mark: str) -> sql.Composed:
        return sql.SQL("COMMENT ON {} {} IS {}").format(
            sql.SQL(kind), self._identifier(name), sql.Literal(mark)
        )

    def _grow(self, name: str, there: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        before = None
        for label in wanted:
            if label not in there:
                place: sql.Composable = sql.SQL("")
                if before is not None:
                    place = sql.SQL(" AFTER {}").format(sql.Literal(before))
                elif there:
                    place = sql.SQL(" BEFORE {}").format(sql.Literal(there[0]))
                add = sql.SQL("ALTER TYPE {} ADD VALUE IF NOT EXISTS {}{}").format(
                    self._identifier(name), sql.Literal(label), place
                )
                self._step(name, add)
            before = label

    def _define(
        self, kind: LiteralString, template: LiteralString, wanted: list[str], of: sql.Composable
    ) -> tuple[str, ...]:
        """Return the full names of what ``template`` makes, which is there or gets a step.

        It takes the names, one for each of ``wanted``, and then what the type is made ``of``; the
        first is the type's own. There are none if all names are somebody else's.
        """
        create = sql.SQL(template)
        text = create.format(*(sql.SQL("?") for _ in wanted), of).as_string()
        definition = _MARK + hashlib.sha256(text.encode()).hexdigest()[:16]
        candidates = list(zip(*(_candidates(name, definition) for name in wanted), strict=True))
        for group in candidates:
            there = self._here.get(group[0])
            if there and there.definition == definition and group[0] not in self._taken:
                self._taken |= {*group}
                return tuple(map(self._name, group))
        for group in candidates:
            if self._taken & {*group} or self._here.keys() & {*group}:
                continue
            statement = create.format(*map(self._identifier, group), of)
            self._step(group[0], statement + sql.SQL("; ") + self._mark(kind, group[0], definition))
            self._taken |= {*group}
            return tuple(map(self._name, group))
        return ()

    def _make_room(self) -> None:
        """Rename types that were made under a name that a table needs now; columns keep them."""
        for name in sorted(self._taken & self._here.keys()):
            mark = self._here[name].definition
            _, other = _candidates(name, mark)
            if mark.startswith(_MARK) and other not in self._here:
                kind = sql.SQL("DOMAIN" if self._here[name].kind == "d" else "TYPE")
                rename = sql.SQL("ALTER {} {} RENAME TO {}").format(
                    kind, self._identifier(name), sql.Identifier(other)
                )
                self._step(name, rename, becomes=self._name(other))
                self._here[other] = self._here.pop(name)

    def _step(self, name: str, statement: sql.Composed, becomes: str = "") -> None:
        self.steps.append(TypeStep(self._schema, name, statement, becomes=becomes))

    def _identifier(self, name: str) -> sql.Identifier:
        return sql.Identifier(self._schema, name)

    def _name(self, name: str) -> str:
        return names.qualified(self._schema, name)


def _candidates(name: str, *marks: str) -> tuple[str, ...]:
    """Return the names to try: the source's own, and one that only each of ``marks`` has."""
    digests = (hashlib.sha256(mark.encode()).hexdigest()[:8] for mark in marks)
    return (name, *(names.suffixed(name, f"_{digest}") for digest in digests))

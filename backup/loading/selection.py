"""What of an archive is restored: some tables with all that is theirs, or all but some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backup.loading.qualified import names_between, qualified_names
from backup.postgres.names import on_one_line, on_screen, printable
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from backup.loading.archive import Archive, Entry
    from backup.postgres.names import Name

TABLES = frozenset(("TABLE", "FOREIGN TABLE"))
# What hangs on one table, be others named in it or not.
_OF_A_TABLE = frozenset((
    "TABLE DATA", "DEFAULT", "SEQUENCE", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX",
    "TRIGGER", "RULE", "POLICY", "ROW SECURITY", "STATISTICS",
))  # fmt: skip
# What hangs on any entry.
_SAID = frozenset((
    "SEQUENCE OWNED BY", "SEQUENCE SET", "COMMENT", "ACL", "SECURITY LABEL", "STATISTICS DATA",
))  # fmt: skip
_BODY = " _RETURN"  # how the rule of a view is called, and no rule of a table can be
_ATTACHED = frozenset(("TABLE ATTACH", "INDEX ATTACH"))  # joins two that must both be there
# What has a name of its own in its table's schema.
_NAMED = TABLES | {"SEQUENCE", "INDEX", "CONSTRAINT", "STATISTICS"}
_EVERYBODY = frozenset(("PUBLIC", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER"))


@dataclass(frozen=True)
class Named:
    """An object of an archive: pg_dump's word for its kind, its schema if any, and its name."""

    kind: str
    schema_name: str
    name: str

    @property
    def described(self) -> str:
        """All three in one line, as people read them: ``FK CONSTRAINT public.people people_fk``."""
        name = ".".join(filter(None, (self.schema_name, self.name)))
        return f"{self.kind} {on_screen(name)}".strip()

    @property
    def called(self) -> tuple[str, ...]:
        """How a comparison calls it: with its schema, or its kind; nothing if it has no name.

        With spaces for line breaks, too: pg_dump heads an object's text so.
        """
        if not self.name:
            return ()
        if not self.schema_name:  # what is said of it, such as a comment, has the kind as it is
            return f"{self.kind.lower()} {self.name}", f"{self.kind} {self.name}"
        name = f"{self.schema_name}.{self.name}"
        return name, on_one_line(name)


def named(entry: Entry) -> tuple[str, str, str]:
    """Return kind, schema and name of an entry, for people and JSON."""
    return entry.kind, printable(entry.schema), printable(entry.name)


@dataclass(frozen=True)
class LeftOut(Named):
    """An object that is not restored, though nobody named it, and the reason."""

    why: str


@dataclass(frozen=True)
class Selection:
    """The entries that are restored, in the archive's order, and what they leave out."""

    entries: tuple[Entry, ...]
    left_out: tuple[LeftOut, ...] = ()

    def without(self, reasons: Mapping[int, str]) -> Selection:
        """Return the selection without these entries and all that needs them.

        What needs them is told, and they themselves if there is a reason.
        """
        gone = dict(reasons)
        by_number = {entry.number: entry for entry in self.entries}
        bodies = {_bodiless(entry, by_number): entry.number for entry in self.entries}
        while more := {
            entry.number: f"it needs {cause.label}"
            for entry in self.entries
            if entry.number not in gone and (cause := _cause(entry, gone, by_number))
        } | {
            view: gone[rule]
            for view, rule in bodies.items()
            if view and rule in gone and view not in gone
        }:
            gone |= more
        left = tuple(
            LeftOut(*named(entry), gone[entry.number])
            for entry in self.entries
            if gone.get(entry.number) and entry.kind not in _SAID | _ATTACHED
        )
        kept = tuple(entry for entry in self.entries if entry.number not in gone)
        return Selection(kept, self.left_out + left)


def all_entries(archive: Archive) -> Selection:
    """Return the selection of all that is in the archive."""
    return Selection(archive.entries)


def of_tables(archive: Archive, tables: Collection[Name]) -> Selection:
    """Return the tables with their partitions and all that is theirs. Raises Failure."""
    numbers = _belonging(archive, tables)
    chosen = (entry for entry in archive.entries if entry.number in numbers or _is_setting(entry))
    return Selection(tuple(chosen))


def without_tables(selection: Selection, archive: Archive, tables: Collection[Name]) -> Selection:
    """Return the selection without these tables, what is theirs, and what needs them."""
    return selection.without(dict.fromkeys(_belonging(archive, tables), ""))


def without_roles(selection: Selection, roles: Collection[str]) -> Selection:
    """Return the selection without policies and user mappings of roles that are not ``roles``.

    A policy without its role would be everybody's, so it is left out, and shows no rows instead.
    """
    reasons = {
        entry.number: f"it is for the role {printable(', '.join(missing))}, which is not there"
        for entry in selection.entries
        if (missing := sorted({*_roles(entry)} - {*roles}))
    }
    return selection.without(reasons)


def without_comments_on_extensions(selection: Selection) -> Selection:
    """Return the selection as who does not own the extensions can restore it.

    Each brings its comment itself.
    """
    kept = (
        entry
        for entry in selection.entries
        if not (entry.kind == "COMMENT" and entry.name.startswith("EXTENSION "))
    )
    return replace(selection, entries=tuple(kept))


def event_triggers_last(
    selection: Selection,
) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Return all entries but event triggers, and these with what is said of them.

    An event trigger sees, and can forbid, whatever is restored after it: materialised views are.
    """
    triggers = {entry.number for entry in selection.entries if entry.kind == "EVENT TRIGGER"}

    def is_late(entry: Entry) -> bool:
        said = entry.kind in _SAID and not triggers.isdisjoint(entry.dependencies)
        return said or entry.number in triggers

    first = (entry for entry in selection.entries if not is_late(entry))
    return tuple(first), tuple(entry for entry in selection.entries if is_late(entry))


def _cause(entry: Entry, gone: Collection[int], entries: Mapping[int, Entry]) -> Entry | None:
    """Return which of the entries that are gone this one needs, a table before its key."""
    needed = [entries[each] for each in entry.dependencies if each in gone and each in entries]
    # A key to a partitioned table names the indexes of all its partitions, and needs none.
    needed = [each for each in needed if each.kind != "INDEX ATTACH"]
    return min(needed, key=lambda each: each.kind not in TABLES, default=None)


def _bodiless(entry: Entry, entries: Mapping[int, Entry]) -> int | None:
    """Return the number of the view that would show but NULL without this entry, if there is one.

    A view that needs a table's key is made without its body first, and gets that as a rule.
    """
    if not _is_body(entry):
        return None
    view = "VIEW", entry.schema, entry.name.removesuffix(_BODY)
    needed = (entries[each] for each in entry.dependencies if each in entries)
    return next(
        (each.number for each in needed if (each.kind, each.schema, each.name) == view), None
    )


def _is_body(entry: Entry) -> bool:
    return entry.kind == "RULE" and entry.name.endswith(_BODY)


def _belonging(archive: Archive, tables: Collection[Name]) -> set[int]:
    """Return the numbers of what is these tables'. Raises Failure if one is not there."""
    found = {
        (entry.schema, entry.name): entry.number
        for entry in archive.entries
        if entry.kind in TABLES and (entry.schema, entry.name) in tables
    }
    if missing := sorted(set(tables) - found.keys()):
        raise Failure(
            f"the dump has no table {', '.join('.'.join(name) for name in missing)}",
            hint="`backup show ID` lists the tables of a backup.",
        )
    numbers = set(found.values())
    while more := {*_partitions(archive, numbers)} - numbers:
        numbers |= more
    numbers |= {
        entry.number
        for entry in archive.entries
        if entry.kind in _OF_A_TABLE and not _is_body(entry)
        if _table_of(archive, entry) in numbers
    }
    while more := {*_dependents(archive, numbers)} - numbers:
        numbers |= more
    return numbers


def _partitions(archive: Archive, tables: Collection[int]) -> Iterator[int]:
    """Yield the partitions of ``tables``: ALTER TABLE parent ATTACH PARTITION child."""
    parents = {(archive.by_number[each].schema, archive.by_number[each].name) for each in tables}
    children = set()
    for entry in archive.entries:
        if entry.kind == "TABLE ATTACH":
            parent, child = [*qualified_names(entry.sql)][:2]
            if parent in parents:
                children.add(child)
    for entry in archive.entries:
        if entry.kind in TABLES and (entry.schema, entry.name) in children:
            yield entry.number


def _dependents(archive: Archive, numbers: Collection[int]) -> Iterator[int]:
    """Yield what is said of the entries ``numbers``, and what joins two of them."""
    names = {name for number in numbers for name in own_names(archive.by_number[number])}
    for entry in archive.entries:
        if entry.kind in _SAID and any(each in numbers for each in entry.dependencies):
            yield entry.number
        if entry.kind in _ATTACHED and names.issuperset([*qualified_names(entry.sql)][:2]):
            yield entry.number


def _table_of(archive: Archive, entry: Entry) -> int | None:
    """Return the table that the entry hangs on: of several, the one that it names first."""
    tables = {
        (needed.schema, needed.name): needed.number
        for each in entry.dependencies
        if (needed := archive.by_number.get(each)) and needed.kind in TABLES
    }
    if len(tables) < 2:  # noqa: PLR2004
        return next(iter(tables.values()), None)
    named = (tables[name] for name in qualified_names(entry.sql) if name in tables)
    return next(named, None)


def _is_setting(entry: Entry) -> bool:
    return entry.kind in ("ENCODING", "STDSTRINGS", "SEARCHPATH")


def _roles(entry: Entry) -> Iterable[str]:
    """Return the roles without which the entry cannot be, rights and owners aside."""
    if entry.kind == "POLICY":
        named = names_between(entry.sql, "TO", ("USING", "WITH"))
    elif entry.kind == "USER MAPPING":
        named = names_between(entry.sql, "FOR", ("SERVER",))
    else:
        return ()
    return (role for role in named if role.upper() not in _EVERYBODY)


def own_names(entry: Entry) -> Iterator[Name]:
    """Yield the name that the entry takes in a schema."""
    if entry.kind not in _NAMED:
        return
    if entry.kind == "CONSTRAINT":  # called "table constraint"; its index has the constraint's name
        named = names_between(entry.sql, "CONSTRAINT")
        yield from ((entry.schema, name) for name in named[:1])
    else:
        yield entry.schema, entry.name

"""What a run does with one table: what the table is, what is read, what changes, how it lands."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from psycopg import sql

from ingest import names, origin
from ingest.cursor import Cursor, Interval  # noqa: TC001 - pydantic reads it
from ingest.drift import Drift, Shape
from ingest.origin import Origin  # noqa: TC001 - pydantic reads it
from ingest.projection import ColumnPlan  # noqa: TC001 - pydantic reads it
from ingest.rules import Deletes, Load  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class State:
    """What the warehouse holds of a published table since its last load.

    ``origin`` is None in what an older release wrote.
    """

    load_id: str
    shape: Shape
    cursor: str | None
    cursor_value: str | None
    rows: int
    origin: Origin | None = None


@dataclass(frozen=True)
class Source:
    """What a table is where it comes from.

    ``keyed``: an index there keeps the plan's key from coming twice. ``rows`` is the server's
    estimate, -1 if it has none; ``bytes`` the size of its rows; ``blocks``, of 8 kB, that of the
    largest part, 0 where ranges of them cannot be read. ``parted``: partitions or children hold
    its rows, or may.
    """

    schema: str
    name: str
    origin: Origin
    keyed: bool
    rows: int = -1
    bytes: int = 0
    blocks: int = 0
    parted: bool = False

    def __str__(self) -> str:
        return names.display(self.schema, self.name)

    @property
    def relation(self) -> sql.Composed:
        """What follows FROM: a table that has no children is read without one that comes."""
        alone = bool(self.origin.leaves) and not self.parted
        return sql.SQL("ONLY {}" if alone else "{}").format(sql.Identifier(self.schema, self.name))

    @property
    def leaves(self) -> sql.Composable | None:
        """The condition that a row belongs to the leaves that there were at the plan.

        A partition that is attached while the table is read has rows of another moment.
        """
        if not self.parted:
            return None
        leaves = [leaf.oid for leaf in self.origin.leaves]
        return _in_leaves(leaves) if leaves else sql.SQL("false")


@dataclass(frozen=True)
class Read:
    """Which rows are read, how they come into what is published, and why.

    ``since`` is the value of ``cursor`` at which the last load ended; with ``interval`` its values
    are read again instead. Where ``oldest`` is known, rows are those that transactions from it on
    wrote, among which is all that the cursor could show; all of the ``leaves`` with these oids
    come besides. ``why_text`` is the first column that binary COPY cannot carry,
    "" if it carries all; ``unseen`` says what this way of loading does not find, a sentence each.
    ``restarted``: the table has another file, so its cursor may have begun again. ``most`` bounds
    the rows that are read, of a sample; None: all are.
    """

    load: Load
    reason: str
    cursor: Cursor | None = None
    since: str | None = None
    interval: Interval | None = None
    oldest: int | None = None
    leaves: tuple[int, ...] = ()
    why_text: str = ""
    unseen: tuple[str, ...] = ()
    restarted: bool = False
    most: int | None = None

    @property
    def format(self) -> Literal["binary", "text"]:
        """COPY's format."""
        return "text" if self.why_text else "binary"

    @property
    def moves_cursor(self) -> bool:
        """Whether the next run begins where this one ends.

        Not after an interval: what lies between the last load and a later one is still to be read.
        """
        return self.cursor is not None and self.interval is None

    @property
    def window(self) -> sql.Composed | None:
        """The condition that the cursor makes, on rows of either side; None if it makes none."""
        if self.cursor is None:
            return None
        if self.interval is not None:
            return self.cursor.between(self.interval)
        return None if self.since is None else self.cursor.reaching(self.since)

    @property
    def condition(self) -> sql.Composable | None:
        """The source's condition for the rows that are read, None for all."""
        told = self.window if self.oldest is None else origin.written_since(self.oldest)
        if told is None or self.interval is not None or not self.leaves:
            return told
        return sql.SQL("{} OR {}").format(told, _in_leaves(self.leaves))


@dataclass(frozen=True)
class Changes:
    """What is another than at the last load, whose id is ``base``, None if nothing is published.

    ``notes`` say what is withheld although the file does not name it, and what does not come along.
    """

    base: str | None = None
    drift: Drift = field(default_factory=Drift)
    notes: tuple[str, ...] = ()

    def describe(self) -> tuple[str, ...]:
        """Return a line a change, for people and for ops.shapes."""
        return (*self.drift.describe(), *self.notes)


@dataclass(frozen=True)
class Target:
    """What a table lands as: ``schema``.``name``, by way of the same name in schema ``staging``."""

    schema: str
    staging: str
    name: str
    columns: tuple[ColumnPlan, ...]
    key: tuple[str, ...]
    deletes: Deletes
    shape: Shape

    def __str__(self) -> str:
        return names.display(self.schema, self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns, in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True)
class TablePlan:
    """One table's way through a run."""

    source: Source
    read: Read
    changes: Changes
    target: Target

    def __str__(self) -> str:
        return str(self.target)

    @property
    def compares_keys(self) -> bool:
        """Whether all keys of both sides are compared.

        Not after an interval: keys that came since the last run are not in it.
        """
        increment = self.read.load == "incremental" and self.read.interval is None
        return increment and self.target.deletes != "ignore"

    def sample(self, rows: int) -> TablePlan:
        """Return the load of at most ``rows`` rows, which are read as one range."""
        source, read = replace(self.source, blocks=0), replace(self.read, most=rows)
        return replace(self, source=source, read=read)

    def started_over(self) -> TablePlan:
        """Return the full load in place of this one, which missed rows that are in the source."""
        what = self.read.cursor.column if self.read.cursor else "the source"
        reason = f"rows are missing that {what} does not show"
        read = replace(self.read, load="full", reason=reason, since=None, oldest=None, leaves=())
        return replace(self, read=read)


def _in_leaves(oids: Iterable[int]) -> sql.Composed:
    return sql.SQL("tableoid IN ({})").format(sql.SQL(", ").join(map(sql.Literal, oids)))

"""What a run does with each table, and why: decided without any database."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from frame.failure import Failure
from ingest import cursor as cursors
from ingest import drift, names
from ingest import origin as origins
from ingest.cursor import Cursor  # noqa: TC001 - pydantic reads it
from ingest.drift import Shape  # noqa: TC001 - pydantic reads it
from ingest.errors import SchemaChangedError
from ingest.origin import Moved, Origin  # noqa: TC001 - pydantic reads it
from ingest.projection import ColumnPlan, Projection, project

if TYPE_CHECKING:
    from ingest.contract import Pipeline
    from ingest.cursor import Interval
    from ingest.rules import TableRule
    from ingest.shapes import TableShape
    from ingest.types import Landings

Action = Literal["full", "incremental", "append"]


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
class TablePlan:
    """One table's way into ``schema``.``name``, by way of the same name in ``staging_schema``.

    ``action`` and ``reason`` say what this run does; ``where`` is the source's condition for the
    rows that it reads, empty for all, and ``window`` what of it the cursor says; ``origin`` is
    where they come from; ``guarded`` tells whether an index of the source keeps the key from coming
    twice; ``alter`` are clauses of ALTER TABLE that the published
    table needs first; ``added``, ``renamed`` and ``unfit`` tell columns that are new, that had
    another name, and whose old values do not fit their type any more; ``base`` is the load_id of
    what is published now, None if nothing is; ``backfill`` tells whether an interval of cursor
    values is read again.
    """

    source_schema: str
    source_name: str
    schema: str
    staging_schema: str
    name: str
    columns: tuple[ColumnPlan, ...]
    key: tuple[str, ...]
    action: Action
    reason: str
    appends: bool  # whether the file says load: append
    follows: bool  # whether rows are found by the transactions that wrote them
    deletes: str
    shape: Shape
    origin: Origin
    guarded: bool
    binary: bool
    why_text: str = ""  # the first column that binary COPY cannot carry
    rows: int = -1  # the source's estimate
    bytes: int = 0
    blocks: int = 0  # of the largest part; 0 where ranges cannot be read
    cursor: Cursor | None = None
    since: str | None = None
    where: str = ""
    window: str = ""
    alter: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()  # (old, new)
    changes: tuple[str, ...] = ()
    base: str | None = None
    backfill: bool = False
    started_anew: bool = False  # whether the source's file is another: its cursor may be, too

    def __str__(self) -> str:
        return names.display(self.schema, self.name)

    @property
    def source(self) -> str:
        """The source table's name, as people write it."""
        return names.display(self.source_schema, self.source_name)

    @property
    def leaves(self) -> str:
        """The condition that a row of a table of several belongs to those of the plan, or "".

        A partition that is attached while the table is read has rows of another moment.
        """
        leaves = [str(leaf.oid) for leaf in self.origin.leaves]
        return f"tableoid IN ({', '.join(leaves)})" if leaves[1:] else ""

    @property
    def finds_deletes(self) -> bool:
        """Whether all keys of both sides are compared.

        Not after a backfill: keys that came since the last run are not in its interval.
        """
        return self.action == "incremental" and self.deletes != "ignore" and not self.backfill

    @property
    def moves_cursor(self) -> bool:
        """Whether the next run begins where this one ends.

        Not after a backfill: what lies between the last load and a later interval is still to be
        read.
        """
        return self.cursor is not None and not self.backfill

    def started_over(self) -> TablePlan:
        """Return the full load in place of this one, which missed rows that are in the source."""
        what = self.cursor.column if self.cursor else "the source"
        reason = f"rows are missing that {what} does not show"
        return replace(
            self, action="full", reason=reason, since=None, where="", window="", alter=()
        )

    def unseen(self) -> tuple[str, ...]:
        """Return what this way of loading cannot see, one sentence each."""
        if self.cursor is None and not self.follows:
            return ()
        lines: list[str] = []
        if self.cursor is not None and not self.follows:
            # Keys tell of rows that are new or gone, not of what changed in them.
            late = "rows" if self.deletes == "ignore" else "updates"
            back = f"more than {self.cursor.lookback_text()} " if self.cursor.lookback else ""
            lines.append(f"{late} that commit with {self.cursor.column} {back}behind the newest")
        if self.appends:
            lines.append("changes of rows that are already there")
        elif self.cursor is not None and not self.follows:
            lines.append(f"changes that do not move {self.cursor.column}")
        if self.deletes == "ignore":
            lines.append("deletes")
        return tuple(lines)


def build(
    pipeline: Pipeline,
    rule: TableRule,
    table: TableShape,
    landings: Landings,
    *,
    state: State | None,
    before: Shape | None = None,
    hashed: str = "",
    full_refresh: bool = False,
    interval: Interval | None = None,
) -> TablePlan:
    """Return what a run does with ``table``.

    ``state`` is None if nothing is published; ``before`` is the shape that the same source table
    had at its last load, under whatever name, None if that is not known; ``hashed`` is the mark of
    the key for hashed columns; ``interval`` asks for those cursor values only. Raises Failure, and
    SchemaChangedError if the shape changed and the rule forbids it.
    """
    projection = project(rule, table, landings, hashed, before)
    whole = _whole(pipeline, rule, table, projection)
    if state is None:
        return replace(whole, reason="first load")
    moved = origins.compare(state.origin, table.origin)
    same_table = origins.is_same_table(state.origin, table.origin)
    found = drift.compare(state.shape, whole.shape, same_table=same_table)
    whole = replace(
        whole,
        changes=(*found.describe(), *whole.changes),
        added=tuple(column.name for column in found.added),
        renamed=found.renamed,
        unfit=tuple(
            new.name for old, new in (*found.retyped, *found.replaced) if not drift.fits(old, new)
        ),
        base=state.load_id,
    )
    if full_refresh:
        return replace(whole, reason="full refresh asked for")
    _check_allowed(rule, whole, found, state.shape, same_table=same_table)
    if rule.load == "append":
        whole = replace(whole, shape=_with_kept(whole.shape, state.shape, found))
    return _next_load(rule, whole, found, state, interval, moved)


def _with_kept(shape: Shape, last: Shape, found: drift.Drift) -> Shape:
    """Return ``shape`` with the columns that left the source and stay."""
    there = {column.name for column in shape.columns}
    kept = [column for column in (*last.kept, *found.dropped) if column.name not in there]
    return replace(shape, kept=tuple(kept))


def _whole(
    pipeline: Pipeline, rule: TableRule, table: TableShape, projection: Projection
) -> TablePlan:
    """Return the plan of a full load, which every table begins with."""
    relation = table.relation
    # Only ordinary tables say of each row by which transaction it was written.
    ordinary = relation.kind in "rp" and relation.heap
    if rule.load == "incremental" and rule.cursor is None and not ordinary:
        raise Failure(
            f"table {relation}: expected a cursor for load: incremental, as it is no ordinary"
            " table, whose rows say which transaction wrote them",
            hint="Name a column that grows whenever a row is written, or use load: full.",
        )
    return TablePlan(
        source_schema=relation.schema,
        source_name=relation.name,
        schema=pipeline.published_schema,
        staging_schema=pipeline.staging_schema,
        name=relation.name,
        columns=projection.columns,
        key=projection.key,
        action="full",
        reason="load: full",
        appends=rule.load == "append",
        # A row that was written again would be appended again, but for its key.
        follows=ordinary
        and (rule.load == "incremental" or (rule.load == "append" and bool(projection.key))),
        deletes=rule.deletes,
        shape=projection.shape,
        origin=table.origin,
        guarded=any(columns <= {*projection.key} for columns in table.unique),
        binary=not projection.why_text,
        why_text=projection.why_text,
        rows=relation.rows,
        bytes=table.bytes,
        blocks=table.blocks if relation.heap else 0,
        cursor=cursors.of(rule, table),
        changes=projection.notes,
    )


def _check_allowed(
    rule: TableRule, whole: TablePlan, found: drift.Drift, last: Shape, *, same_table: bool
) -> None:
    """Raise SchemaChangedError if the file does not let the table follow what was ``found``."""
    # Of the same table they are known by their numbers, whatever their names.
    there = {each.name for each in whole.shape.withheld}
    lost = {each.name for each in last.withheld if not (same_table and each.number)} - there
    gone = lost & rule.columns.withheld
    if gone:
        raise SchemaChangedError(
            f"table {whole}: expected its columns {', '.join(sorted(gone))}, which are not to be"
            " published as they are, found none of that name",
            hint="If they have other names now, put those into columns; if they are gone, run once"
            " with --full-refresh.",
        )
    if found and rule.on_schema_change == "fail":
        raise SchemaChangedError(
            f"table {whole}: expected the shape of the last load, found"
            f" {', '.join(found.describe())}",
            hint="Set on_schema_change, or run once with --full-refresh to accept the new shape.",
        )
    if rule.deletes == "mark" and (found.rekeyed or {*whole.key} & {*whole.unfit}):
        raise SchemaChangedError(
            f"table {whole}: expected the key by which its marked rows are known, found"
            f" {', '.join(found.describe())}",
            hint="Run once with --full-refresh to accept that marked rows go.",
        )


def _next_load(
    rule: TableRule,
    whole: TablePlan,
    found: drift.Drift,
    state: State,
    interval: Interval | None,
    moved: Moved,
) -> TablePlan:
    """Return how the rows that came since ``state`` are loaded: alone if that is possible."""
    if rule.load == "full":
        return whole
    if moved.source:
        return _refresh(rule, whole, state, moved.source)
    cursor = whole.cursor
    value = state.cursor_value if cursor and state.cursor == cursor.column else None
    if rule.load == "incremental" and (why := _unknown(whole, state, value, moved, found)):
        return replace(whole, reason=why)
    if found:
        hard = found.needs_rows(appends=rule.load == "append")
        whole = replace(whole, alter=() if hard else _alter(rule, found, whole.key))
        if not whole.alter and (hard or not _stands(rule, found)):
            return _refresh(rule, whole, state, "; ".join(hard or found.describe()))
    return _added(rule, whole, state, value, interval, moved)


def _unknown(
    whole: TablePlan, state: State, value: str | None, moved: Moved, found: drift.Drift
) -> str:
    """Return why nobody can say which rows are new, "" if somebody can."""
    if moved.rewritten:
        return "; ".join(found.describe()) or "the source table was rewritten or emptied"
    if whole.follows and state.origin is not None:
        return ""
    if whole.cursor is None:
        return "the transactions of the last load are not known"
    return f"no value of {whole.cursor.column} is known yet" if value is None else ""


def _stands(rule: TableRule, found: drift.Drift) -> bool:
    """Return whether the published table suits what was ``found`` as it is."""
    changed = found.added or found.renamed or found.retyped or found.nullable
    return rule.load == "append" and not changed


def _refresh(rule: TableRule, whole: TablePlan, state: State, why: str) -> TablePlan:
    """Return a full load, unless rows that only the warehouse still has would be lost."""
    if rule.load == "append" and state.rows:
        raise SchemaChangedError(
            f"table {whole}: expected to add rows to those that are there, found {why}",
            hint="An append table keeps rows that the source may no longer have: use"
            " on_schema_change: evolve, or run once with --full-refresh to replace it.",
        )
    return replace(whole, reason=why)


def _alter(rule: TableRule, found: drift.Drift, key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the clauses that bring the published table to the new shape, none if rows must."""
    appends = rule.load == "append"
    # Without a key a row is known by all of its columns, and an old one has no value in a new one.
    if not (appends or rule.on_schema_change == "evolve") or (found.added and not key):
        return ()
    quote = names.quote
    # Nothing of an append goes; a new row has no value in a column that left the source.
    clauses = [
        f"ALTER COLUMN {quote(column.name)} DROP NOT NULL"
        if appends
        else f"DROP COLUMN {quote(column.name)}"
        for column in found.dropped
        if column.not_null or not appends
    ]
    # By way of names that are nobody's: two columns may have swapped theirs.
    aside = [(old, f"renaming {place}", new) for place, (old, new) in enumerate(found.renamed)]
    clauses += [f"RENAME COLUMN {quote(old)} TO {quote(between)}" for old, between, _ in aside]
    clauses += [f"RENAME COLUMN {quote(between)} TO {quote(new)}" for _, between, new in aside]
    clauses += [f"ADD COLUMN {quote(column.name)} {column.lands}" for column in found.added]
    clauses += [
        f"ALTER COLUMN {quote(new.name)} TYPE {new.lands}"
        for old, new in (*found.retyped, *found.replaced)
        if old.lands != new.lands
    ]
    clauses += [
        f"ALTER COLUMN {quote(column.name)} DROP NOT NULL"
        for column in found.nullable
        if column.name not in key
    ]
    return tuple(clauses)


def _added(
    rule: TableRule,
    whole: TablePlan,
    state: State,
    value: str | None,
    interval: Interval | None,
    moved: Moved,
) -> TablePlan:
    action: Action = "append" if rule.load == "append" else "incremental"
    cursor = whole.cursor
    if cursor is not None and interval is not None:
        where = cursor.between(interval)
        return replace(
            whole,
            action=action,
            reason=f"{cursor.column} from {interval.since} until {interval.until}",
            since=value,
            where=where,
            window=where,
            backfill=True,
        )
    window, reason = "", "rows that were written since the last load"
    if cursor is not None and value is not None:
        window = cursor.since(value)
        reason = f"{cursor.column} from {value}"
        if cursor.lookback:
            reason += f" less {cursor.lookback_text()}"
    elif cursor is not None:
        reason = f"no value of {cursor.column} is known yet"
    conditions = [window] if window else []
    if whole.follows and state.origin is not None:
        conditions.append(origins.written_since(state.origin.moment.oldest))
    leaves = moved.joined if rule.load == "append" else moved.fresh
    if leaves and conditions:
        conditions.append(f"tableoid IN ({', '.join(map(str, leaves))})")
        reason += f", and all of {len(leaves)} partitions that are new"
    return replace(
        whole,
        action=action,
        reason=reason,
        since=value,
        where=" OR ".join(conditions),
        window=window,
        started_anew=moved.rewritten,
    )

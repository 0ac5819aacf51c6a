"""Decides what a run does with each table, and why, without any database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from frame.failure import Failure
from ingest import alterations, drift
from ingest import cursor as cursors
from ingest import origin as origins
from ingest.errors import SchemaChangedError
from ingest.plan import Changes, Read, Source, TablePlan, Target
from ingest.projection import project

if TYPE_CHECKING:
    from ingest.contract import Pipeline
    from ingest.cursor import Cursor, Interval
    from ingest.drift import Drift, Shape
    from ingest.origin import Moved
    from ingest.plan import State
    from ingest.projection import Projection
    from ingest.rules import TableRule
    from ingest.shapes import TableShape
    from ingest.types import Landings


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
    whole = _whole(pipeline, rule, table, project(rule, table, landings, hashed, before))
    if state is None:
        return _because(whole, "first load")
    state = replace(state, shape=drift.renamed(state.shape, landings.renamed))
    moved = origins.compare(state.origin, table.origin)
    same_table = origins.is_same_table(state.origin, table.origin)
    found = drift.compare(state.shape, whole.target.shape, same_table=same_table)
    whole = replace(whole, changes=replace(whole.changes, base=state.load_id, drift=found))
    if full_refresh:
        return _because(whole, "full refresh asked for")
    _check_allowed(rule, whole, state.shape, same_table=same_table)
    if rule.load == "full":
        return whole
    if rule.load == "append":
        shape = _with_kept(whole.target.shape, state.shape, found)
        whole = replace(whole, target=replace(whole.target, shape=shape))
    follows = state.origin is not None and _follows(rule, table, whole.target.key)
    return _next_load(rule, whole, state, moved, interval, follows=follows)


def _because(plan: TablePlan, reason: str) -> TablePlan:
    return replace(plan, read=replace(plan.read, reason=reason))


def _with_kept(shape: Shape, last: Shape, found: Drift) -> Shape:
    """Return ``shape`` with the columns that left the source and stay."""
    there = {column.name for column in shape.columns}
    kept = [column for column in (*last.kept, *found.dropped) if column.name not in there]
    return replace(shape, kept=tuple(kept))


def _is_ordinary(table: TableShape) -> bool:
    """Return whether each row says by which transaction it was written."""
    return table.relation.kind in "rp" and table.relation.heap


def _follows(rule: TableRule, table: TableShape, key: tuple[str, ...]) -> bool:
    """Return whether rows are found by the transactions that wrote them.

    To an append without a key a row that was written again would be added again.
    """
    finds = rule.load == "incremental" or (rule.load == "append" and bool(key))
    return finds and _is_ordinary(table)


def _whole(
    pipeline: Pipeline, rule: TableRule, table: TableShape, projection: Projection
) -> TablePlan:
    """Return the plan of a full load, which every table begins with."""
    relation, key = table.relation, projection.key
    if rule.load == "incremental" and rule.cursor is None and not _is_ordinary(table):
        raise Failure(
            f"table {relation}: expected a cursor for load: incremental, as it is no ordinary"
            " table, whose rows say which transaction wrote them",
            hint="Name a column that grows whenever a row is written, or use load: full.",
        )
    cursor = cursors.of(rule, table)
    return TablePlan(
        source=Source(
            relation.schema,
            relation.name,
            table.origin,
            keyed=any(columns <= {*key} for columns in table.unique),
            rows=relation.rows,
            bytes=table.bytes,
            blocks=table.blocks if relation.heap else 0,
            parted=relation.kind == "p" or len(table.origin.leaves) > 1,
        ),
        read=Read(
            "full",
            "load: full",
            cursor,
            why_text=projection.why_text,
            unseen=_unseen(rule, cursor, follows=_follows(rule, table, key)),
        ),
        changes=Changes(notes=projection.notes),
        target=Target(
            pipeline.published_schema,
            pipeline.staging_schema,
            relation.name,
            projection.columns,
            key,
            rule.deletes,
            projection.shape,
        ),
    )


def _unseen(rule: TableRule, cursor: Cursor | None, *, follows: bool) -> tuple[str, ...]:
    """Return what a way of loading cannot see, one sentence each."""
    if cursor is None and not follows:
        return ()
    lines: list[str] = []
    if cursor is not None and not follows:
        # Keys tell of rows that are new or gone, their number of new ones, and neither of what
        # changed in them.
        back = f"more than {cursor.lookback_text()} " if cursor.lookback else ""
        behind = f"that commit with {cursor.column} {back}behind the newest"
        lines.append(f"updates {behind}")
        if rule.deletes == "ignore":
            lines.append(f"new rows {behind}, where as many have left the source")
    if rule.load == "append":
        lines.append("changes of rows that are already there")
    elif cursor is not None and not follows:
        lines.append(f"changes that do not move {cursor.column}")
    if rule.deletes == "ignore":
        lines.append("deletes")
    return tuple(lines)


def _check_allowed(rule: TableRule, whole: TablePlan, last: Shape, *, same_table: bool) -> None:
    """Raise SchemaChangedError if the file does not let the table follow what changed."""
    target, found = whole.target, whole.changes.drift
    # Of the same table they are known by their numbers, whatever their names.
    there = {each.name for each in target.shape.withheld}
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
    if rule.deletes == "mark" and (found.rekeyed or {*target.key} & found.unfit):
        raise SchemaChangedError(
            f"table {whole}: expected the key by which its marked rows are known, found"
            f" {', '.join(found.describe())}",
            hint="Run once with --full-refresh to accept that marked rows go.",
        )


def _next_load(
    rule: TableRule,
    whole: TablePlan,
    state: State,
    moved: Moved,
    interval: Interval | None,
    *,
    follows: bool,
) -> TablePlan:
    """Return how the rows that came since ``state`` are loaded: alone if that is possible."""
    if moved.source:
        return _refresh(rule, whole, state, moved.source)
    cursor, found = whole.read.cursor, whole.changes.drift
    value = state.cursor_value if cursor and state.cursor == cursor.column else None
    if rule.load == "incremental":
        why = _unknown(cursor, value, moved, found, follows=follows)
        if why:
            return _because(whole, why)
    if hard := found.needs_rows(appends=rule.load == "append"):
        return _refresh(rule, whole, state, "; ".join(hard))
    if found and not _suits(rule, found, whole.target.key):
        return _refresh(rule, whole, state, "; ".join(found.describe()))
    read = replace(
        whole.read,
        load=rule.load,
        since=value,
        interval=None if cursor is None else interval,
    )
    if read.interval is None:
        if follows and moved.crashed:  # an append: by its key it gets what it does not have
            return replace(whole, read=replace(read, since=None, reason=origins.CRASHED))
        oldest = state.origin.moment.oldest if follows and state.origin else None
        leaves = moved.joined if rule.load == "append" else moved.fresh
        read = replace(read, oldest=oldest, leaves=leaves, restarted=moved.rewritten)
    return replace(whole, read=replace(read, reason=_reason(read)))


def _unknown(
    cursor: Cursor | None, value: str | None, moved: Moved, found: Drift, *, follows: bool
) -> str:
    """Return why nobody can say which rows are new, "" if somebody can."""
    if moved.rewritten:
        return "; ".join(found.describe()) or "the source table was rewritten or emptied"
    if moved.crashed:
        return origins.CRASHED
    if follows:
        return ""
    if cursor is None:
        return "the transactions of the last load are not known"
    return f"no value of {cursor.column} is known yet" if value is None else ""


def _refresh(rule: TableRule, whole: TablePlan, state: State, why: str) -> TablePlan:
    """Return a full load, unless rows that only the warehouse still has would be lost."""
    if rule.load == "append" and state.rows:
        hint = (
            "An append table keeps rows that the source may no longer have: use"
            " on_schema_change: evolve, or run once with --full-refresh to replace it."
        )
        if why == origins.UNKNOWN:
            hint = (
                "If it is, `ingest reset FILE --table NAME` goes on with the rows that are there;"
                " GRANT EXECUTE ON FUNCTION pg_control_system() to the connection's role, and a"
                " server is known from then on."
            )
        raise SchemaChangedError(
            f"table {whole}: expected to add rows to those that are there, found {why}", hint=hint
        )
    return _because(whole, why)


def _suits(rule: TableRule, found: Drift, key: tuple[str, ...]) -> bool:
    """Return whether the published table suits what was ``found``, or may be altered to do so."""
    appends = rule.load == "append"
    if appends and not (found.added or found.renamed or found.retyped or found.nullable):
        return True
    # Without a key a row is known by all of its columns, and an old one has no value in a new one.
    may_alter = (appends or rule.on_schema_change == "evolve") and not (found.added and not key)
    return may_alter and bool(alterations.clauses(found, key, appends=appends))


def _reason(read: Read) -> str:
    """Return why these rows are read."""
    if read.cursor is None or read.oldest is not None:
        reason = "rows that were written since the last load"
    elif read.interval is not None:
        reason = f"{read.cursor.column} from {read.interval.since} until {read.interval.until}"
    elif read.since is None:
        reason = f"no value of {read.cursor.column} is known yet"
    else:
        reason = f"{read.cursor.column} from {read.since}"
        if read.cursor.lookback:
            reason += f" less {read.cursor.lookback_text()}"
    if read.leaves and (read.oldest is not None or read.window):
        reason += f", and all of {len(read.leaves)} partitions that are new"
    return reason

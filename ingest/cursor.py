"""The cursor of a table: the column whose values show which rows are new or changed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from psycopg import sql

from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from ingest.rules import TableRule
    from ingest.shapes import TableShape

# How far back late commits are looked for, unless the file says otherwise.
_LOOKBACKS = {
    "timestamp with time zone": timedelta(hours=1),
    "timestamp without time zone": timedelta(hours=1),
    "date": timedelta(days=1),
}
_LEAST = {"smallint": -(2**15), "integer": -(2**31), "bigint": -(2**63)}
_NUMBERS = (*_LEAST, "numeric")


@dataclass(frozen=True)
class Cursor:
    """A cursor column; ``type`` is its type without modifiers."""

    column: str
    type: str
    nullable: bool
    lookback: timedelta | int

    @property
    def is_number(self) -> bool:
        """Whether it counts rather than tells a time."""
        return self.type in _NUMBERS

    def reaching(self, value: str) -> sql.Composed:
        """Return the source's condition for rows from ``value`` less the lookback, or NULL."""
        start: sql.Composable = self._literal(value)
        if isinstance(self.lookback, timedelta) and self.lookback:
            # Nothing comes before the beginning of time, and to reach for it is an error.
            start = sql.SQL(
                "CASE WHEN {value} < '4000-01-01 BC'::{type} THEN '-infinity'::{type}"
                " ELSE ({value} - {back}::interval)::{type} END"
            ).format(
                value=start,
                type=self._type,
                back=sql.Literal(f"{self.lookback.total_seconds():.0f} seconds"),
            )
        elif isinstance(self.lookback, int) and self.type in _LEAST:
            start = self._literal(str(max(int(value) - self.lookback, _LEAST[self.type])))
        elif isinstance(self.lookback, int) and self.lookback:
            start = sql.SQL("({} - {})").format(start, sql.Literal(self.lookback))
        found = sql.SQL("{} >= {}").format(self._name, start)
        if not self.nullable:
            return found
        return sql.SQL("({} OR {} IS NULL)").format(found, self._name)

    def between(self, interval: Interval) -> sql.Composed:
        """Return the condition for rows within ``interval``, of the source or the warehouse."""
        return sql.SQL("{column} >= {since} AND {column} < {until}").format(
            column=self._name,
            since=self._literal(interval.since),
            until=self._literal(interval.until),
        )

    def newest(self, now: str, since: str | None) -> sql.Composed:
        """Return the expression of the newest value over rows of the warehouse.

        It is never before ``since``: a day without rows does not move the cursor back. ``now`` is
        the source's clock: a row dated far into the future must not hide what is written until
        then, nor infinity all that comes.
        """
        if self.type in _LEAST:
            sane = sql.SQL("true")
        elif self.is_number:  # NaN is above infinity
            sane = sql.SQL("{column} < 'Infinity'")
        elif self.type == "timestamp with time zone":
            sane = sql.SQL("isfinite({column}) AND {column} <= {now}::timestamptz")
        else:
            # Without a zone a value may be ahead by as much as the earth turns: 14 hours.
            sane = sql.SQL(
                "isfinite({column})"
                " AND {column} <= {now}::timestamptz AT TIME ZONE 'UTC' + interval '14 hours'"
            )
        least = sql.SQL("NULL::{}").format(self._type) if since is None else self._literal(since)
        return sql.SQL("greatest(max({}) FILTER (WHERE {}), {})").format(
            self._name, sane.format(column=self._name, now=sql.Literal(now)), least
        )

    def newest_before(self, value: str) -> sql.Composed:
        """Return the expression of the source's newest value, NULL if one is not before ``value``.

        Rows that went leave none.
        """
        return sql.SQL("CASE WHEN max({column}) < {value} THEN max({column}) END").format(
            column=self._name, value=self._literal(value)
        )

    def lookback_text(self) -> str:
        """Return the lookback as the pipeline file writes it."""
        return _text(self.lookback)

    @property
    def _name(self) -> sql.Identifier:
        return sql.Identifier(self.column)

    @property
    def _type(self) -> sql.SQL:
        return sql.SQL(self.type)

    def _literal(self, value: str) -> sql.Composed:
        return sql.SQL("{}::{}").format(sql.Literal(value), self._type)


@dataclass(frozen=True)
class Interval:
    """A half-open range of cursor values, as text: ``since`` belongs to it, ``until`` does not."""

    since: str
    until: str

    def suits(self, cursor: Cursor) -> bool:
        """Return whether its values are numbers where the cursor's are, and times otherwise."""
        try:
            Decimal(self.since), Decimal(self.until)
        except InvalidOperation:
            return not cursor.is_number
        return cursor.is_number


def of(rule: TableRule, table: TableShape) -> Cursor | None:
    """Return the cursor that ``rule`` names in ``table``; raise Failure if it cannot be one."""
    if rule.cursor is None:
        return None
    where = f"table {table.relation}: cursor"
    column = next((each for each in table.columns if each.name == rule.cursor), None)
    if column is None:
        raise Failure(
            f"{where}: expected one of its columns, found {rule.cursor}",
            hint="Mend the cursor in the pipeline file; case matters here.",
        )
    kind = _without_modifier(column.type.declaration)
    if kind not in _LOOKBACKS and kind not in _NUMBERS:
        raise Failure(
            f"{where} {column.name}: expected a number, a date or a time stamp, found {kind}",
            hint="Choose a column that grows whenever a row is written, or use load: full.",
        )
    lookback = rule.lookback
    if lookback is None:
        lookback = _LOOKBACKS.get(kind, 0)
    if isinstance(lookback, timedelta) is not (kind in _LOOKBACKS):
        wanted = "a duration such as 2h" if kind in _LOOKBACKS else "a whole number"
        raise Failure(
            f"table {table.relation}: lookback: expected {wanted} for {column.name} ({kind}),"
            f" found {_text(lookback)}",
            hint="Mend lookback in the pipeline file.",
        )
    return Cursor(column.name, kind, not column.not_null, lookback)


def _without_modifier(declaration: str) -> str:
    head, bracket, tail = declaration.partition("(")
    return head + tail.partition(")")[2] if bracket else declaration


def _text(lookback: timedelta | int) -> str:
    if isinstance(lookback, int):
        return str(lookback)
    seconds = int(lookback.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def tick_before(moment: str, schedule: str) -> str:
    """Return the schedule's last tick before a time. Raises WrongUse."""
    from croniter import croniter  # most runs need none

    try:
        found = datetime.fromisoformat(moment)
    except ValueError:
        raise WrongUse(
            f"interval_end: expected a date and time where it is alone, found {moment!r}",
            "Write it like 2026-03-01T02:00:00+00:00, or give interval_start as well.",
        ) from None
    tick: datetime = croniter(schedule, found).get_prev(datetime)
    return tick.isoformat()

"""One school day's changes in a loaded database, the same for the same database and seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from . import hr, records, service_desk
from .load import TABLES, copy, marked
from .seasons import day_off
from .table import TODAY, dice, key, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random
    from typing import Any

    from psycopg import Connection, Cursor

    from .table import Row

# One row in this many of the table that the day turns on changes, and at least two.
_ONE_IN = 200


@dataclass(frozen=True)
class Changes:
    """Rows of a table that a day inserted, updated and deleted; no row counts twice."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class _Day:
    """The day at work: its date, its dice, and what it has changed so far."""

    def __init__(self, cursor: Cursor[Any], database: str, seed: int) -> None:
        self.cursor, self.database = cursor, database
        self.mark = marked(cursor, database)
        self.date = self._next_day()
        # With the day in it, one seed serves for many days.
        self.salt = f"{seed}/{self.date}"
        self.rng: Random = dice(seed, "day", database, self.date)
        self.changes: dict[str, Changes] = {}

    def _next_day(self) -> date:
        last = TODAY
        for table in TABLES[self.database]:
            last = max(
                last, self.fetch(f"SELECT max(updated_at)::date FROM {table.name}")[0] or last
            )
        ahead = {4: 3, 5: 2}.get(last.weekday(), 1)  # over the weekend
        return last + timedelta(days=ahead)

    def fetch(self, query: str, *values: object) -> list[Any]:
        """Return the rows of ``query``; those of a single column as its values."""
        rows = self.cursor.execute(query.encode(), values).fetchall()
        return [row[0] if len(row) == 1 else row for row in rows]

    def some(self, table: str) -> int:
        """Return how many rows of ``table`` a day touches."""
        rows: int = self.fetch(f"SELECT count(*) FROM {table}")[0]
        return max(2, rows // _ONE_IN)

    def numbers(self, sequence: str, wanted: int) -> list[int]:
        """Take ``wanted`` numbers from ``sequence``; none is ever given twice."""
        query = "SELECT nextval(%s::regclass) FROM generate_series(1, %s)"
        return self.fetch(query, sequence, wanted)

    def pick(self, table: str, column: str, where: str, wanted: int) -> list[Any]:
        """Return ``column`` of ``wanted`` rows, thrown by the day's salt and not by their place."""
        query = (
            f"SELECT {column} FROM {table} WHERE {where}"
            f" ORDER BY md5(({column})::text || %s), {column} LIMIT %s"
        )
        return self.fetch(query, self.salt, wanted)

    def insert(self, table: str, rows: Iterable[Row]) -> None:
        """Insert ``rows``, each touched at a moment of its own: the last column is updated_at."""
        found = next(one for one in TABLES[self.database] if one.name == table)
        self._note(table, inserted=copy(self.cursor, found, map(self._dated, rows)))

    def update(self, table: str, change: str, column: str, keys: list[Any]) -> None:
        """Update the rows with ``keys``, all at one moment as one statement does it."""
        self.cursor.execute(
            f"UPDATE {table} SET {change}, updated_at = %s WHERE {column} = ANY(%s)".encode(),
            (moment(self.rng, self.date), keys),
        )
        self._note(table, updated=self.cursor.rowcount)

    def delete(self, table: str, column: str, keys: list[Any]) -> None:
        """Delete the rows with ``keys``: nothing in the database tells of them any more."""
        self.cursor.execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)".encode(), (keys,))
        self._note(table, deleted=self.cursor.rowcount)

    def _dated(self, row: Row) -> Row:
        touched = row[-1]
        if isinstance(touched, datetime) and touched.date() == self.date:
            return row
        return (*row[:-1], moment(self.rng, self.date))

    def _note(self, table: str, inserted: int = 0, updated: int = 0, deleted: int = 0) -> None:
        was = self.changes.get(table, Changes())
        self.changes[table] = Changes(
            was.inserted + inserted, was.updated + updated, was.deleted + deleted
        )


def mutate(connection: Connection[Any], database: str, seed: int) -> dict[str, Changes]:
    """Make the next school day's changes, in one transaction, and return them by table.

    The day follows the latest ``updated_at``, over weekends. Every row inserted or updated gets an
    ``updated_at`` of that day; rows of one statement share it. Rows deleted leave no trace. The
    same database and seed give the same changes; a second call makes the day after.

    Raises:
        SchoolError: the database holds no school, or another of its databases.
    """
    with connection.transaction(), connection.cursor() as cursor:
        day = _Day(cursor, database, seed)
        _DAYS[database](day)
    return day.changes


def _hr(day: _Day) -> None:
    some, seed = day.some("employees"), day.mark.seed
    # Requests are withdrawn, then decided.
    day.delete("leave", "id", day.pick("leave", "id", "approved IS NULL", some))
    waiting = day.pick("leave", "id", "approved IS NULL", some)
    day.update("leave", "approved = mod(id, 5) > 0, reason = coalesce(reason, '')", "id", waiting)
    people = day.pick("employees", "id", "active", 2 * some)
    more = "monthly_salary = monthly_salary * 1.05 + 10, phone = nullif(trim(phone), '')"
    day.update("employees", more, "id", people)
    slip = "employee_id::text || to_char(month, 'YYYYMM')"
    unpaid = day.pick("payroll", slip, "paid_at IS NULL", 5 * some)
    day.update("payroll", f"paid_at = '{day.date} 17:30+00'", slip, unpaid)
    numbers = day.numbers("staff_numbers", some)
    day.insert("employees", (hr.employee(seed, n, day.date) for n in numbers))
    entitled = ((n, hr.terms(seed, n, day.date)) for n in numbers)
    year = day.date.year
    day.insert("leave_entitlements", (hr.entitlement(seed, n, year, at) for n, at in entitled))
    away = day.pick("employees", "substr(staff_number, 5)::int", "active", 2 * some)
    # As many as were withdrawn or decided: the days do not run out of them.
    soon, later = (day.date + timedelta(days=days) for days in (1, 60))
    starts = [day_off(day.rng, soon, later) for _ in away]
    k = day.date.toordinal()
    day.insert("leave", (hr.request(seed, n, k, on) for n, on in zip(away, starts, strict=True)))


def _records(day: _Day) -> None:
    some, seed, year = day.some("students"), day.mark.seed, day.date.year
    # A course dropped takes its results with it.
    dropped = day.pick("enrolments", "id", "status = 'enrolled'", some)
    scripts = day.fetch(
        "SELECT script_number FROM enrolments e JOIN exams x USING (course_id, academic_year)"
        " JOIN results r ON (r.academic_year, r.exam_id, r.student_id)"
        " = (x.academic_year, x.id, e.student_id) WHERE e.id = ANY(%s)",
        dropped,
    )
    day.delete("results", "script_number", scripts)
    day.delete("enrolments", "id", dropped)
    left = day.pick("enrolments", "id", "status = 'enrolled'", some)
    day.update("enrolments", "status = 'withdrawn'", "id", left)
    payers = day.pick("students", "id", "fees_owed > 0", 3 * some)
    day.update("students", "fees_owed = 0, email = lower(trim(email))", "id", payers)
    marks = day.pick("results", "script_number", "score < 99", 5 * some)
    day.update("results", "score = score + 0.5, remark = '+½ ✅'", "script_number", marks)
    late = day.fetch(
        "SELECT x.academic_year, x.id, e.student_id FROM enrolments e"
        " JOIN exams x USING (course_id, academic_year) LEFT JOIN results r"
        " ON (r.academic_year, r.exam_id, r.student_id) = (x.academic_year, x.id, e.student_id)"
        " WHERE r.exam_id IS NULL AND x.held_at >= e.enrolled_on"
        " ORDER BY md5(x.id::text || e.student_id::text || %s), x.id, e.student_id LIMIT %s",
        day.salt,
        5 * some,
    )
    marked_at = moment(day.rng, day.date)
    day.insert(
        "results",
        ((*script, day.rng.randrange(101), None, "late", marked_at, marked_at) for script in late),
    )
    numbers = day.numbers("index_numbers", some)
    day.insert("students", (records.student(seed, n, year) for n in numbers))
    day.insert(
        "enrolments",
        (
            (key(seed, "students", n), course + 1, year, "enrolled", day.date, None)
            for n in numbers
            for course in records.courses_of(seed, n, year)
        ),
    )


def _service_desk(day: _Day) -> None:
    some, seed = day.some("tickets"), day.mark.seed
    people = hr.employees_at(day.mark.scale)
    machines = service_desk.assets_at(day.mark.scale)
    spam = day.pick("tickets", "id", "'spam' = ANY(tags)", max(1, some // 10))
    day.delete("comments", "ticket_id", spam)
    day.delete("tickets", "id", spam)
    leases = day.pick("assets", "id", "family(address) = 4", some)
    day.update("assets", "address = set_masklen(address + 1, 22)", "id", leases)
    edited = day.pick("comments", "id", "NOT internal", some)
    day.update("comments", "body = body || E'\\nEdit: solved 🎉'", "id", edited)
    busy = day.pick("tickets", "number", "closed_at IS NULL", 2 * some)
    work = "status = 'waiting', time_spent = time_spent + '17 minutes', history = history || 3"
    day.update("tickets", work, "number", busy)
    new = day.numbers("tickets_number_seq", some)
    day.insert("tickets", (service_desk.ticket(seed, n, day.date, people, machines) for n in new))
    last = day.fetch(
        "SELECT t.number, upper(btrim(t.requester, E' \\t')), coalesce(max(c.position), 0)"
        " FROM tickets t LEFT JOIN comments c ON c.ticket_id = t.id"
        " WHERE t.number = ANY(%s) GROUP BY t.id ORDER BY t.number",
        busy + new,
    )
    # After working hours: no ticket of today is opened later.
    evening = datetime.combine(day.date, time(18), UTC)
    written = [evening + timedelta(minutes=day.rng.randrange(300)) for _ in last]
    authors = [day.rng.choice((service_desk.DESK, requester)) for _, requester, _ in last]
    day.insert(
        "comments",
        (
            service_desk.comment(day.rng, seed, n, at + 1, when, author)
            for (n, _, at), when, author in zip(last, written, authors, strict=True)
        ),
    )


_DAYS: dict[str, Callable[[_Day], None]] = {
    "hr": _hr,
    "records": _records,
    "service_desk": _service_desk,
}

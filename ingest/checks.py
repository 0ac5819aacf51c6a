"""Audits what a load would publish, before it is published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import sql

from ingest import deletions, kept, names, staging, warehouse
from ingest.errors import CheckFailedError, from_postgres
from ingest.journal import Outcome
from ingest.rules import Checks, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.journal import Journal
    from ingest.rules import Freshness, TableRule
    from ingest.staging import Staged

_SAMPLES = 5
_BOOLEAN = psycopg.adapters.types["bool"].oid
# A check's own SELECT reads one table of tonight's; beyond this it is wrong.
_SQL_TIMEOUT = "10min"


def audit(journal: Journal, staged: Staged, rule: TableRule) -> tuple[Outcome, ...]:
    """Hold what ``staged`` would publish against its rule, and write what was found into ops.

    Raises CheckFailedError with every check that failed; staging stays as it is.
    """
    plan, connection = staged.plan, journal.connection
    try:
        if journal.base(str(plan)).load_id == staged.load_id:
            return ()  # published by an earlier try of this step's run
        staging.expect(connection, staged)
        drops = rule.checks.rows.max_drop is not None
        recent = journal.recent_rows(str(plan)) if drops else None
        with connection.transaction(force_rollback=True):
            outcomes = tuple(_Audit(connection, staged, rule.checks, recent).outcomes())
        journal.checked(str(plan), outcomes)
        if all(outcome.passed for outcome in outcomes):
            kept.checked(connection, staged)
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=str(plan)) from error
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if failed:
        raise CheckFailedError(
            f"table {plan}: " + f"\ntable {plan}: ".join(map(str, failed)),
            hint=f"Nothing was published; look at {names.display(plan.staging_schema, plan.name)}"
            " and ops.checks, then mend the source or the check.",
        )
    return outcomes


class _Audit:
    """One pass of aggregates over the candidate, then one query for each check that needs its own.

    It runs in a transaction that is undone, so that what it creates and grants is never seen.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        staged: Staged,
        checks: Checks,
        recent: int | None,
    ) -> None:
        self._connection = connection
        self._staged = staged
        self._plan = staged.plan
        self._checks = checks
        self._recent = recent
        self._columns = {column.name for column in staged.plan.columns}
        # An increment without checks is only reconciled.
        asked = staged.plan.action == "full" or checks != Checks()
        self._candidate = _candidate(connection, staged) if asked else ""

    def outcomes(self) -> Iterator[Outcome]:
        """Yield what each check finds: reconciliation, then those of the file in its order."""
        checks = self._checks
        nulls = {column: share for column, share in checks.nulls.items() if self._has(column)}
        accepted = {column: good for column, good in checks.accepted.items() if self._has(column)}
        counts = [_is_null(column) for column in nulls]
        counts += [_not_accepted(column, values) for column, values in accepted.items()]
        rows, found = 0, list[int]()
        whole = self._plan.action == "full"
        if whole or counts or checks.rows != Rows():
            rows, found = self._count(counts)
        yield self._reconcile(rows) if whole else self._reconcile_new()
        yield from self._rows(rows)
        for (column, share), count in zip(nulls.items(), found, strict=False):
            yield self._share(column, share, count, rows)
        for (column, values), count in zip(accepted.items(), found[len(nulls) :], strict=True):
            yield self._accepted(column, values, count)
        for columns in checks.unique:
            if all(map(self._has, columns)):
                yield self._unique(columns)
        if checks.freshness and self._has(checks.freshness.column):
            yield self._fresh(checks.freshness)
        if checks.sql:
            yield from self._sql()

    def _has(self, column: str) -> bool:
        return column in self._columns

    def _count(self, conditions: list[str]) -> tuple[int, list[int]]:
        parts = ", ".join(["count(*)", *(f"count(*) FILTER (WHERE {c})" for c in conditions)])
        rows, *found = self._one(f"SELECT {parts} FROM {self._candidate}")
        return rows, found

    def _reconcile(self, rows: int) -> Outcome:
        # Rows that are marked as deleted are no longer the source's.
        expected = self._staged.rows
        return Outcome("reconcile", rows == expected, f"the source's {expected} rows", f"{rows}")

    def _reconcile_new(self) -> Outcome:
        staged, plan = self._staged, self._plan
        (rows,) = self._one(
            f"SELECT count(*) FROM {names.qualified(plan.staging_schema, plan.name)}"
        )
        known = f", less {staged.known} published before" if staged.known else ""
        expected = f"the {staged.rows} rows read{known}"
        return Outcome("reconcile", rows == staged.rows - staged.known, expected, f"{rows}")

    def _rows(self, rows: int) -> Iterator[Outcome]:
        rule = self._checks.rows
        if rule.min is not None:
            yield Outcome("rows.min", rows >= rule.min, f"at least {rule.min} rows", f"{rows}")
        if rule.max is not None:
            yield Outcome("rows.max", rows <= rule.max, f"at most {rule.max} rows", f"{rows}")
        if rule.max_drop is not None and self._recent is not None:
            least = self._recent * (1 - rule.max_drop)
            yield Outcome(
                "rows.max_drop",
                rows >= least,
                f"at most {rule.max_drop:.4g} less than {self._recent} rows, the median of late",
                f"{rows}",
            )

    def _share(self, column: str, share: float, count: int, rows: int) -> Outcome:
        found = count / rows if rows else 0.0
        passed = found <= share
        return Outcome(
            f"nulls.{column}",
            passed,
            f"at most {share:.2%} NULL",
            f"{found:.2%} ({count} of {rows} rows)",
            () if passed else self._samples(_is_null(column)),
        )

    def _accepted(self, column: str, values: tuple[str, ...], count: int) -> Outcome:
        wrong = _not_accepted(column, values)
        found = "no other"
        if count:
            others = self._all(
                f"SELECT DISTINCT {names.quote(column)}::text FROM {self._candidate}"
                f" WHERE {wrong} LIMIT {_SAMPLES}"
            )
            found = f"{count} rows with others, such as {', '.join(map(repr, others))}"
        samples = self._samples(wrong) if count else ()
        return Outcome(f"accepted.{column}", not count, f"one of {list(values)}", found, samples)

    def _unique(self, columns: tuple[str, ...]) -> Outcome:
        listed = ", ".join(map(names.quote, columns))
        known = " AND ".join(f"{names.quote(column)} IS NOT NULL" for column in columns)
        groups = f"FROM {self._candidate} WHERE {known} GROUP BY {listed} HAVING count(*) > 1"
        check = f"unique.{'+'.join(columns)}"
        try:
            with self._connection.transaction():
                (count,) = self._one(f"SELECT count(*) FROM (SELECT {groups}) AS again")
        except psycopg.errors.UndefinedFunction:
            return Outcome(check, False, "types whose values compare", self._types(*columns))
        samples = (
            self._all(f"SELECT ROW({listed})::text {groups} LIMIT {_SAMPLES}") if count else ()
        )
        return Outcome(
            check,
            not count,
            "every value once",
            f"{count} values more than once",
            samples,
        )

    def _fresh(self, rule: Freshness) -> Outcome:
        column = names.quote(rule.column)
        seconds = rule.max_age.total_seconds()
        # Dates and time stamps without a zone are taken as UTC.
        newest = f"max({column}) FILTER (WHERE isfinite({column}))"
        check = f"freshness.{rule.column}"
        try:
            with self._connection.transaction():
                value, passed = self._one(
                    f"SELECT {newest}::text, coalesce({newest}::timestamp >="
                    f" (now() AT TIME ZONE 'UTC') - {seconds} * interval '1 second', false)"
                    f" FROM {self._candidate}"
                )
        except (psycopg.errors.UndefinedFunction, psycopg.errors.CannotCoerce):
            return Outcome(check, False, "a date or a time stamp", self._types(rule.column))
        return Outcome(
            check,
            passed,
            f"a value of the last {rule.max_age}",
            f"{value or 'none'}",
        )

    def _sql(self) -> Iterator[Outcome]:
        """Run the file's own queries with a reader's rights, where the warehouse has readers."""
        connection, plan = self._connection, self._plan
        readers = connection.execute(
            "SELECT FROM pg_catalog.pg_roles WHERE rolname = %s AND pg_has_role(oid, 'MEMBER')",
            [warehouse.READERS],
        ).fetchone()
        if readers is not None:
            role = names.quote(warehouse.READERS)
            self._run(f"GRANT USAGE ON SCHEMA {names.quote(plan.staging_schema)} TO {role}")
            self._run(f"GRANT SELECT ON {self._candidate} TO {role}")
            self._run(f"SET LOCAL ROLE {role}")
        self._run(f"SET LOCAL statement_timeout = '{_SQL_TIMEOUT}'")
        self._run("SET TRANSACTION READ ONLY")
        for name, query in self._checks.sql.items():
            yield self._ask(name, query)

    def _ask(self, name: str, query: str) -> Outcome:
        check, expected = f"sql.{name}", "true"
        rows: list[tuple[Any, ...]] = []
        try:
            # Rolled back, so that what a query sets, another role among it, ends with it.
            with self._connection.transaction(force_rollback=True):
                # Whatever the query finds, no more than two answers come, and none that is wide.
                inner = query.replace("{table}", self._candidate).rstrip().removesuffix(";")
                asked = f"SELECT * FROM ({inner}\n) AS answer LIMIT"
                columns = self._run(f"{asked} 0").description or ()
                if [column.type_code for column in columns] == [_BOOLEAN]:
                    rows = self._run(f"{asked} 2").fetchall()
        except psycopg.Error as error:
            return Outcome(check, False, expected, f"an error: {error.diag.message_primary}")
        if len(rows) != 1:
            return Outcome(check, False, expected, "not one row of one true or false")
        return Outcome(check, rows[0][0] is True, expected, str(rows[0][0]).lower())

    def _types(self, *columns: str) -> str:
        lands = {column.name: column.lands for column in self._plan.columns}
        return ", ".join(f"{column} of type {lands[column]}" for column in columns)

    def _samples(self, condition: str) -> tuple[str, ...]:
        key = ", ".join(map(names.quote, self._plan.key))
        if not key:
            return ()
        return self._all(
            f"SELECT ROW({key})::text FROM {self._candidate} WHERE {condition} LIMIT {_SAMPLES}"
        )

    def _one(self, query: str) -> tuple[Any, ...]:
        (row,) = self._connection.execute(sql.SQL(query)).fetchall()
        return cast("tuple[Any, ...]", row)

    def _all(self, query: str) -> tuple[str, ...]:
        return tuple(str(value) for (value,) in self._connection.execute(sql.SQL(query)))

    def _run(self, statement: str) -> psycopg.Cursor[Any]:
        return self._connection.execute(sql.SQL(statement), prepare=False)


def _candidate(connection: psycopg.Connection[Any], staged: Staged) -> str:
    """Return the name of what is audited: the staging table, or a view of what merging makes."""
    plan = staged.plan
    if plan.action == "full" and plan.deletes != "mark":
        return names.qualified(plan.staging_schema, plan.name)
    view = names.qualified(plan.staging_schema, names.suffixed(plan.name, "~candidate"))
    columns = tuple(column.name for column in plan.columns)
    query = deletions.candidate_rows(plan, columns)
    if staged.keys:
        query = sql.SQL("SELECT * FROM ({}) c WHERE EXISTS (SELECT FROM {} k WHERE {})").format(
            query, deletions.name(plan), sql.SQL(deletions.same_key(plan, "k", "c"))
        )
    connection.execute(sql.SQL("CREATE VIEW {} AS {}").format(sql.SQL(view), query))
    return view


def _is_null(column: str) -> str:
    return f"{names.quote(column)} IS NULL"


def _not_accepted(column: str, values: tuple[str, ...]) -> str:
    return f"{names.quote(column)}::text NOT IN ({', '.join(map(names.literal, values))})"

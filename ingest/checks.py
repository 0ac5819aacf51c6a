"""Audits what a load would publish, before it is published."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, LiteralString, cast

import psycopg
from psycopg import sql

from ingest import checker, deletes, kept, loads, names, staging, state
from ingest.errors import CheckFailedError, from_postgres
from ingest.journal import Outcome
from ingest.relations import listed, staging_table
from ingest.rules import Checks, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.connections import Address
    from ingest.journal import Journal
    from ingest.rules import Freshness, TableRule
    from ingest.staging import Staged

_SAMPLES = 5


def audit(
    journal: Journal, staged: Staged, rule: TableRule, login: Address | None
) -> tuple[Outcome, ...]:
    """Hold what ``staged`` would publish against its rule, and write what was found into ops.

    The rule's own queries run under ``login``. Raises CheckFailedError with every check that
    failed; staging stays as it is.
    """
    plan, connection = staged.plan, journal.connection
    try:
        if state.base(journal, str(plan)).load_id == staged.load_id:
            return ()  # published by an earlier try of this step's run
        staging.expect(connection, staged)
        drops = rule.checks.rows.max_drop is not None
        recent = journal.recent_rows(str(plan)) if drops else None
        # An increment without checks is only reconciled.
        asked = loads.of(plan).replaces or rule.checks != Checks()
        whole = _candidate(connection, staged) if asked else nullcontext(staging_table(plan))
        with whole as candidate:
            found = _Audit(connection, staged, rule.checks, recent, candidate)
            outcomes = tuple(found.outcomes(login))
        journal.checked(str(plan), outcomes)
        if all(outcome.passed for outcome in outcomes):
            kept.checked(connection, staged)
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=str(plan)) from error
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if failed:
        raise CheckFailedError(
            f"table {plan}: " + f"\ntable {plan}: ".join(map(str, failed)),
            hint="Nothing was published; look at"
            f" {names.display(plan.target.staging, plan.target.name)}"
            " and ops.checks, then mend the source or the check.",
            brief=f"table {plan}: expected its checks to pass, found"
            f" {', '.join(outcome.check for outcome in failed)} not",
        )
    return outcomes


class _Audit:
    """One pass of aggregates over the candidate, then a query for each check that needs its own."""

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        staged: Staged,
        checks: Checks,
        recent: int | None,
        candidate: sql.Identifier,
    ) -> None:
        self._connection = connection
        self._staged = staged
        self._plan = staged.plan
        self._checks = checks
        self._recent = recent
        self._columns = {*staged.plan.target.names}
        self._candidate = candidate

    def outcomes(self, login: Address | None) -> Iterator[Outcome]:
        """Yield what each check finds: reconciliation, then those of the file in its order."""
        checks = self._checks
        nulls = {column: share for column, share in checks.nulls.items() if self._has(column)}
        accepted = {column: good for column, good in checks.accepted.items() if self._has(column)}
        counts = [_is_null(column) for column in nulls]
        counts += [_not_accepted(column, values) for column, values in accepted.items()]
        rows, found = 0, list[int]()
        whole = loads.of(self._plan).replaces
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
        if checks.sql and login is not None:
            yield from self._sql(login)

    def _has(self, column: str) -> bool:
        return column in self._columns

    def _count(self, conditions: list[sql.Composed]) -> tuple[int, list[int]]:
        counts = [sql.SQL("count(*) FILTER (WHERE {})").format(each) for each in conditions]
        rows, *found = self._one(
            "SELECT {} FROM {}", sql.SQL(", ").join([sql.SQL("count(*)"), *counts]), self._candidate
        )
        return rows, found

    def _reconcile(self, rows: int) -> Outcome:
        # Rows that are marked as deleted are no longer the source's.
        expected = self._staged.rows
        return Outcome("reconcile", rows == expected, f"the source's {expected} rows", f"{rows}")

    def _reconcile_new(self) -> Outcome:
        staged, plan = self._staged, self._plan
        (rows,) = self._one("SELECT count(*) FROM {}", staging_table(plan))
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
        found = f"{count} rows with others" if count else "no other"
        samples = self._samples(wrong) if count else ()
        return Outcome(f"accepted.{column}", not count, f"one of {list(values)}", found, samples)

    def _unique(self, columns: tuple[str, ...]) -> Outcome:
        values = listed(columns)
        known = sql.SQL(" AND ").join(
            sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)) for column in columns
        )
        check = f"unique.{'+'.join(columns)}"
        try:
            (count,) = self._one(
                "SELECT count(*) FROM"
                " (SELECT FROM {} WHERE {} GROUP BY {} HAVING count(*) > 1) AS again",
                self._candidate, known, values,
            )  # fmt: skip
        except psycopg.errors.UndefinedFunction:
            return Outcome(check, False, "types whose values compare", self._types(*columns))
        again = sql.SQL("count(*) OVER (PARTITION BY {}) > 1").format(values)
        samples = self._samples(known, again) if count else ()
        found = f"{count} values more than once"
        return Outcome(check, not count, "every value once", found, samples)

    def _fresh(self, rule: Freshness) -> Outcome:
        # Dates and time stamps without a zone are taken as UTC.
        newest = sql.SQL("max({column}) FILTER (WHERE isfinite({column}))").format(
            column=sql.Identifier(rule.column)
        )
        check = f"freshness.{rule.column}"
        try:
            value, passed = self._one(
                "SELECT {newest}::text, coalesce({newest}::timestamp >="
                " (now() AT TIME ZONE 'UTC') - {age} * interval '1 second', false) FROM {table}",
                newest=newest,
                age=sql.Literal(rule.max_age.total_seconds()),
                table=self._candidate,
            )
        except (psycopg.errors.UndefinedFunction, psycopg.errors.CannotCoerce):
            return Outcome(check, False, "a date or a time stamp", self._types(rule.column))
        return Outcome(
            check,
            passed,
            f"a value of the last {rule.max_age}",
            f"{value or 'none'}",
        )

    def _sql(self, login: Address) -> Iterator[Outcome]:
        name = self._candidate.as_string()
        with checker.session(
            login, self._connection, self._plan.target.staging, self._candidate
        ) as reader:
            for check, query in self._checks.sql.items():
                found = checker.answer(reader, query.replace("{table}", name))
                yield Outcome(f"sql.{check}", found == "true", "true", found)

    def _types(self, *columns: str) -> str:
        lands = {column.name: column.lands for column in self._plan.target.columns}
        return ", ".join(f"{column} of type {lands[column]}" for column in columns)

    def _samples(
        self, condition: sql.Composed, of_all: sql.Composable | None = None
    ) -> tuple[str, ...]:
        """Return keys of some rows with ``condition`` for which ``of_all`` of those holds."""
        if not self._plan.target.key:
            return ()
        rows = self._connection.execute(
            sql.SQL(
                "SELECT key FROM (SELECT {}, {} FROM {} WHERE {}) AS found (key, matches)"
                " WHERE matches LIMIT {}"
            ).format(
                names.sample(map(sql.Identifier, self._plan.target.key)),
                of_all or sql.SQL("true"),
                self._candidate,
                condition,
                sql.Literal(_SAMPLES),
            )
        )
        return tuple(str(value) for (value,) in rows)

    def _one(
        self, query: LiteralString, *parts: sql.Composable, **named: sql.Composable
    ) -> tuple[Any, ...]:
        (row,) = self._connection.execute(sql.SQL(query).format(*parts, **named)).fetchall()
        return cast("tuple[Any, ...]", row)


@contextmanager
def _candidate(connection: psycopg.Connection[Any], staged: Staged) -> Iterator[sql.Identifier]:
    """Give the name of what is audited: the staging table, or a view of what merging makes."""
    plan, load = staged.plan, loads.of(staged.plan)
    if load.replaces and not deletes.of(plan).columns:
        yield staging_table(plan)
        return
    view = sql.Identifier(plan.target.staging, names.helper(plan.target.name, "candidate"))
    query = loads.outcome(staged)
    gone = sql.SQL("DROP VIEW IF EXISTS {}").format(view)
    connection.execute(gone)  # of an audit that was killed
    connection.execute(sql.SQL("CREATE VIEW {} AS {}").format(view, query))
    try:
        yield view
    finally:
        connection.execute(gone)


def _is_null(column: str) -> sql.Composed:
    return sql.SQL("{} IS NULL").format(sql.Identifier(column))


def _not_accepted(column: str, values: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("{}::text NOT IN ({})").format(
        sql.Identifier(column), sql.SQL(", ").join(map(sql.Literal, values))
    )

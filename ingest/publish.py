"""Puts what is staged in front of readers, with its state, in one transaction."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg import sql

from frame.failure import Failure
from ingest import deletions, dependents, names, staging, warehouse
from ingest.errors import ConflictError, from_postgres
from ingest.journal import Counts
from ingest.rules import DELETED_AT

if TYPE_CHECKING:
    from ingest.journal import Journal
    from ingest.plan import TablePlan
    from ingest.staging import Staged

log = logging.getLogger(__name__)
# New readers queue behind a publish that waits for an old one, so it soon lets them pass.
_LOCK_TIMEOUT = "60s"
# With views locked, it first waits for no longer than servers wait (deadlock_timeout, 1 s) before
# they look for a deadlock and end one of its two sides: a dump reads tables first, and then views.
_SHORT_TIMEOUT, _SHORT_WAITS = "500ms", 40


def publish(journal: Journal, staged: Staged) -> Counts:
    """Make ``staged`` what readers see and move the table's state; all of it or nothing.

    A full copy takes the published table's place, and what hangs on that one is made again on it;
    where that is not possible, and the columns are the same, the table stays and is filled anew.
    What is new is merged or added. Done once, it does nothing more. Raises Failure.
    """
    plan, connection = staged.plan, journal.connection
    try:
        before = _published(connection, plan)
        if plan.action == "full" and before is not None and staging.find(connection, plan):
            columns = [column.name for column in plan.columns]
            dependents.copy_indexes(
                connection, before, plan.staging_schema, staging.name(plan), columns
            )
        with connection.transaction():
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
            connection.execute("SET LOCAL synchronous_commit TO DEFAULT")  # the server's own
            rows_before = _claim(journal, staged)
            if rows_before is None:
                return journal.counts(str(plan))
            inserted, updated, deleted = _apply(connection, staged, before, rows_before)
            rows = rows_before + inserted - deleted
            if plan.deletes == "mark":  # rows that a full copy no longer has are carried over
                rows = _count_live(connection, plan)
            counts = Counts(inserted, updated, deleted, rows)
            journal.published(staged, counts)
            return counts
    except psycopg.errors.CardinalityViolation as error:  # a key came twice
        raise staging.key_error(connection, plan, error) from error
    except psycopg.errors.NotNullViolation as error:
        if error.diag.column_name in plan.key:
            raise staging.key_error(connection, plan, error) from error
        raise from_postgres(error, side="warehouse", table=str(plan)) from error
    except psycopg.Error as error:
        raise from_postgres(error, side="warehouse", table=str(plan)) from error


def _published(connection: psycopg.Connection[Any], plan: TablePlan) -> int | None:
    found = connection.execute(
        "SELECT to_regclass(%s)::oid", [names.qualified(plan.schema, plan.name)]
    ).fetchone()
    return None if found is None else cast("int | None", found[0])


def _claim(journal: Journal, staged: Staged) -> int | None:
    """Return the rows that state tells of, or None if this very load is published already.

    Raises ConflictError if another load was published since this one was planned.
    """
    load_id, rows = journal.base(str(staged.plan))
    if load_id == staged.load_id:
        return None
    staging.expect(journal.connection, staged)
    if load_id != staged.plan.base and staged.plan.base is not None:
        raise ConflictError(
            f"table {staged}: expected the load {staged.plan.base} to be the newest one published,"
            f" found {load_id}",
            hint="Another run of the pipeline got in between: run again.",
        )
    return rows


def _apply(
    connection: psycopg.Connection[Any], staged: Staged, before: int | None, rows_before: int
) -> tuple[int, int, int]:
    plan = staged.plan
    if plan.action == "full":
        _replace(connection, plan, before)
        return staged.rows, 0, rows_before
    for clause in plan.alter:
        connection.execute(sql.SQL("ALTER TABLE {} {}").format(_name(plan), sql.SQL(clause)))
    inserted, updated = _merge(connection, plan)
    deleted = _delete(connection, plan) if staged.keys else 0
    staging.drop(connection, plan)
    return inserted, updated, deleted


def _replace(connection: psycopg.Connection[Any], plan: TablePlan, before: int | None) -> None:
    target = sql.Identifier(plan.schema)
    connection.execute(
        sql.SQL("ALTER TABLE {} RESET ({})").format(
            staging.name(plan), sql.SQL(", ").join(map(sql.SQL, staging.UNTENDED))
        )
    )
    move = sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(staging.name(plan), target)
    comment = sql.SQL("COMMENT ON TABLE {} IS NULL").format(_name(plan))
    if before is None:
        connection.execute(move)
        connection.execute(comment)
        if warehouse.has_readers(connection):
            connection.execute(
                sql.SQL("GRANT SELECT ON {} TO {}").format(
                    _name(plan), sql.Identifier(warehouse.READERS)
                )
            )
        return
    kept = _lock(connection, plan, before)
    if kept.blockers:
        _refill(connection, plan, kept.blockers)
        return
    for statement in kept.drop:
        connection.execute(sql.SQL(statement))
    connection.execute(sql.SQL("DROP TABLE {}").format(_name(plan)))
    connection.execute(move)
    connection.execute(comment)
    dependents.restore(connection, kept, str(plan))


def _lock(
    connection: psycopg.Connection[Any], plan: TablePlan, before: int
) -> dependents.Dependents:
    """Lock the published table and the views on it; return what hangs on it, which then stays so.

    The views are locked first, as their readers do; one that is made meanwhile, when it is dropped.
    """
    columns = [column.name for column in plan.columns]
    found = dependents.read(connection, before, columns)
    first = () if found.blockers else found.lock  # a table that stays leaves its views alone
    table = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(_name(plan))
    for timeout in (*(_SHORT_TIMEOUT,) * (_SHORT_WAITS if first else 0), _LOCK_TIMEOUT):
        try:
            with connection.transaction():  # without all of its locks it holds none
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [timeout])
                for statement in first:
                    connection.execute(sql.SQL(statement))
                connection.execute(table)
                break
        except psycopg.errors.LockNotAvailable:
            if timeout == _LOCK_TIMEOUT:
                raise
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [_LOCK_TIMEOUT])
    return dependents.read(connection, before, columns)


def _refill(
    connection: psycopg.Connection[Any], plan: TablePlan, blockers: tuple[str, ...]
) -> None:
    """Fill the published table anew, for what hangs on it and cannot be made again."""
    foreign = [each for each in blockers if each.startswith("constraint ")]
    if foreign:
        raise Failure(
            f"warehouse: table {plan}: expected no foreign key to point at it,"
            f" found {', '.join(foreign)}",
            hint="Drop it: rows of a published table come and go as a whole.",
        )
    shapes = [
        connection.execute(
            "SELECT attname::text, format_type(atttypid, atttypmod),"
            " (SELECT array_position(conkey, attnum) FROM pg_catalog.pg_constraint"  # in the key
            " WHERE conrelid = attrelid AND contype = 'p'), attnotnull"
            " FROM pg_catalog.pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            [names.qualified(schema, plan.name)],
        ).fetchall()
        for schema in (plan.schema, plan.staging_schema)
    ]
    old, new = ({shape[:3] for shape in side} for side in shapes)
    if old != new:
        changed = sorted({name for name, *_ in old ^ new})
        raise Failure(
            f"warehouse: table {plan}, column {', '.join(changed)}: expected the columns"
            f" and the key that {'; '.join(blockers)} was made for, found them changed",
            hint="Drop it, run again, and create it again; or grant this role membership in the"
            " owner of the views, so that it can make them again.",
        )
    log.warning("%s is filled a second time, because of: %s", plan, "; ".join(blockers))
    fixed = {name for name, *_, not_null in shapes[0] if not_null}
    for name, *_, not_null in shapes[1]:
        if name in fixed and not not_null:  # as the source's may be now
            connection.execute(
                sql.SQL("ALTER TABLE {} ALTER {} DROP NOT NULL").format(
                    _name(plan), sql.Identifier(name)
                )
            )
    columns = sql.SQL(", ").join(sql.Identifier(name) for name, *_ in shapes[1])
    connection.execute(sql.SQL("TRUNCATE {}").format(_name(plan)))
    connection.execute(
        sql.SQL("INSERT INTO {} ({columns}) SELECT {columns} FROM {}").format(
            _name(plan), staging.name(plan), columns=columns
        )
    )
    staging.drop(connection, plan)


def _merge(connection: psycopg.Connection[Any], plan: TablePlan) -> tuple[int, int]:
    columns = [sql.Identifier(column.name) for column in plan.columns]
    listed = sql.SQL(", ").join(columns)
    insert = sql.SQL("INSERT INTO {} AS p ({listed}) SELECT {listed} FROM {}").format(
        _name(plan), staging.name(plan), listed=listed
    )
    if plan.action == "append":
        return connection.execute(insert).rowcount, 0
    key = sql.SQL(", ").join(map(sql.Identifier, plan.key))
    # The key, too: 'Ama' for 'ama' and 1.00 for 1 are equal to an index, and not the same value.
    sets = [sql.SQL("{0} = excluded.{0}").format(column) for column in columns]
    # Equal by every byte: rows that only the lookback brought again are not written again.
    differs = [
        sql.SQL("ROW({})::record *<> ROW({})::record").format(
            _of("p", columns), _of("excluded", columns)
        )
    ]
    if plan.deletes == "mark":
        deleted = sql.Identifier(DELETED_AT)
        sets.append(sql.SQL("{} = NULL").format(deleted))
        differs.append(sql.SQL("p.{} IS NOT NULL").format(deleted))
    action = sql.SQL("UPDATE SET {} WHERE {}").format(
        sql.SQL(", ").join(sets), sql.SQL(" OR ").join(differs)
    )
    # In the order of the key, whose index and mostly whose rows are then met page after page.
    ((inserted, updated),) = connection.execute(
        sql.SQL(
            "WITH merged AS ({insert} ORDER BY {key} ON CONFLICT ({key}) DO {action}"
            " RETURNING xmax = 0 AS new)"
            " SELECT count(*) FILTER (WHERE new), count(*) FILTER (WHERE NOT new) FROM merged"
        ).format(insert=insert, key=key, action=action)
    ).fetchall()
    return inserted, updated


def _delete(connection: psycopg.Connection[Any], plan: TablePlan) -> int:
    gone = sql.SQL("NOT EXISTS (SELECT FROM {} k WHERE {})").format(
        deletions.name(plan),
        sql.SQL(deletions.same_key(plan, "k", "p")),
    )
    if plan.deletes == "mark":
        connection.execute(
            sql.SQL("UPDATE {} p SET {deleted} = now() WHERE p.{deleted} IS NULL AND {}").format(
                _name(plan), gone, deleted=sql.Identifier(DELETED_AT)
            )
        )
        return 0  # the rows are still there
    return connection.execute(
        sql.SQL("DELETE FROM {} p WHERE {}").format(_name(plan), gone)
    ).rowcount


def _count_live(connection: psycopg.Connection[Any], plan: TablePlan) -> int:
    ((rows,),) = connection.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {} IS NULL").format(
            _name(plan), sql.Identifier(DELETED_AT)
        )
    ).fetchall()
    return int(rows)


def _name(plan: TablePlan) -> sql.Identifier:
    return sql.Identifier(plan.schema, plan.name)


def _of(relation: str, columns: list[sql.Identifier]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{}.{}").format(sql.Identifier(relation), column) for column in columns
    )

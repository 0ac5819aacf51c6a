"""Tells the rows of staging and of the published table apart: by key, or whole.

Finds rows that left the source, by comparing all keys of both sides.

First each side adds up the hashes of its keys: equal sums, and nothing else moves. Only if they
differ do the keys themselves come over.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
from psycopg import sql

from ingest import names, transfer
from ingest.errors import from_postgres
from ingest.rules import DELETED_AT

if TYPE_CHECKING:
    from ingest.plan import TablePlan
    from ingest.workers import Sessions

_DIGEST = "count(*), coalesce(sum(pg_catalog.hashtextextended(ROW({})::text, 0)), 0)"

_CREATED: LiteralString = """
    UPDATE ops.staging SET oids = oids || to_regclass(%s)::oid WHERE (schema, name) = (%s, %s)
"""


class Found(Enum):
    """What the comparison of keys says."""

    NONE = auto()  # both sides have the same keys
    DELETES = auto()  # the warehouse has keys that the source has not
    MISSED_ROWS = auto()  # the source has keys that the cursor did not show


def table(plan: TablePlan) -> str:
    """Return the name, without its schema, of the staging table for a table's keys."""
    return names.suffixed(plan.name, "~keys")


def name(plan: TablePlan) -> sql.Identifier:
    """Return the name of the staging table for a table's keys."""
    return sql.Identifier(plan.staging_schema, table(plan))


def stage(sessions: Sessions, plan: TablePlan) -> Found:
    """Compare the keys of the source's snapshot with what the table would hold when published.

    If they differ, the source's keys are in staging afterwards. Raises Failure.
    """
    try:
        there = sessions.source.execute(_source_digest(plan)).fetchall()
    except psycopg.Error as error:
        raise from_postgres(error, side="source", table=plan.source) from error
    target = sessions.target
    keys = _key(plan)
    candidate = sql.SQL("SELECT {} FROM ({}) AS candidate").format(
        sql.SQL(_DIGEST.format(keys)), candidate_rows(plan, plan.key)
    )
    if target.execute(candidate).fetchall() == there:
        return Found.NONE
    columns = [column for column in plan.columns if column.name in plan.key]
    staged = plan.schema, plan.name
    with target.transaction():
        target.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name(plan)))
        declared = ", ".join(f"{names.quote(each.name)} {each.lands}" for each in columns)
        target.execute(sql.SQL("CREATE TABLE {} ({})").format(name(plan), sql.SQL(declared)))
        target.execute(_CREATED, [names.qualified(plan.staging_schema, table(plan)), *staged])
        selected = ", ".join(column.select for column in columns)
        listed = ", ".join(names.quote(column.name) for column in columns)
        kind = sql.SQL("binary" if plan.binary else "text")
        transfer.move(
            transfer.End(
                sessions.source,
                sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT {})").format(
                    sql.SQL(selected), _source(plan), kind
                ),
                "source",
                plan.source,
            ),
            transfer.End(
                target,
                sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(
                    name(plan), sql.SQL(listed), kind
                ),
                "warehouse",
                str(plan),
            ),
            lambda _: None,
        )
        target.execute(sql.SQL("ANALYZE {}").format(name(plan)))
    missed = target.execute(missed_key(plan)).fetchone()
    return Found.DELETES if missed is None else Found.MISSED_ROWS


def missed_key(plan: TablePlan) -> sql.Composed:
    """Return the query of one of the source's keys that is neither published nor staged.

    Each of the two tables is asked by itself, by the index of its key: their union has none, and
    would be made anew for every key.
    """
    published, staged = _tables(plan)
    return sql.SQL(
        "SELECT FROM {} k WHERE NOT EXISTS (SELECT FROM {} s WHERE {})"
        " AND NOT EXISTS (SELECT FROM {} p WHERE {}{}) LIMIT 1"
    ).format(
        name(plan),
        staged,
        sql.SQL(same_key(plan, "k", "s")),
        published,
        sql.SQL(same_key(plan, "k", "p", old="p")),
        sql.SQL(_and_live(plan)),
    )


def candidate_rows(plan: TablePlan, columns: tuple[str, ...]) -> sql.Composed:
    """Return the query of what the table would hold after this load, deletes apart.

    Columns that are new are NULL in rows that stay.
    """
    published, staged = _tables(plan)
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    if plan.action == "full":
        live = f" WHERE {names.quote(DELETED_AT)} IS NULL" if plan.deletes == "mark" else ""
        return sql.SQL("SELECT {} FROM {}{}").format(listed, staged, sql.SQL(live))
    kept = sql.SQL(_old_columns(plan, columns))
    if plan.action == "append":  # what is published already has left staging
        return sql.SQL("SELECT {} FROM {} p UNION ALL SELECT {} FROM {}").format(
            kept, published, listed, staged
        )
    return sql.SQL(
        "SELECT {} FROM {} p WHERE NOT EXISTS (SELECT FROM {} s WHERE {}){}"
        " UNION ALL SELECT {} FROM {}"
    ).format(
        kept,
        published,
        staged,
        sql.SQL(same_key(plan, "s", "p", old="p")),
        sql.SQL(_and_live(plan)),
        listed,
        staged,
    )


def drop_known(connection: psycopg.Connection[Any], plan: TablePlan) -> int:
    """Remove rows of an append from staging that are published: by key, or else row by row.

    Return how many.
    """
    published, staged = _tables(plan)
    if plan.key:
        return connection.execute(
            sql.SQL("DELETE FROM {} s USING {} p WHERE {}").format(
                staged, published, sql.SQL(same_key(plan, "s", "p", old="p"))
            )
        ).rowcount
    columns = tuple(column.name for column in plan.columns if column.name not in plan.added)
    before = _renamed(plan)
    # As many copies of a row as are published go, and not one more.
    return connection.execute(
        sql.SQL(
            "WITH known AS (SELECT ROW({old})::text AS row, count(*) AS copies FROM {published} p"
            " WHERE {window} GROUP BY 1), found AS (SELECT ctid AS place, ROW({new})::text AS row,"
            " row_number() OVER (PARTITION BY ROW({new})::text) AS copy FROM {staged})"
            " DELETE FROM {staged} s USING found JOIN known USING (row)"
            " WHERE s.ctid = found.place AND found.copy <= known.copies"
        ).format(
            old=sql.SQL(", ".join(f"p.{names.quote(before.get(name, name))}" for name in columns)),
            published=published,
            window=sql.SQL(plan.window or "true"),
            new=sql.SQL(", ".join(map(names.quote, columns))),
            staged=staged,
        )
    ).rowcount


def carry_over(connection: psycopg.Connection[Any], plan: TablePlan) -> None:
    """Add the published rows that a full load no longer has to its staging table, as marked.

    They have no value in columns that are new or whose old values do not fit their type.
    """
    published, staged = _tables(plan)
    found = connection.execute(
        "SELECT attname::text FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass(%s)"
        " AND attnum > 0 AND NOT attisdropped",
        [names.qualified(plan.schema, plan.name)],
    ).fetchall()
    there = {column for (column,) in found}
    before = {column.name: _renamed(plan).get(column.name, column.name) for column in plan.columns}
    lost = {*plan.added, *plan.unfit}
    kept = [new for new, old in before.items() if old in there and new not in lost]
    if not {*plan.key} <= {*kept}:
        return  # nothing is published yet, or a full refresh was asked for with another key
    since = f"p.{names.quote(DELETED_AT)}" if DELETED_AT in there else "NULL"
    connection.execute(
        sql.SQL(
            "INSERT INTO {staged} ({columns}, {deleted}) SELECT {old}, coalesce({since}, now())"
            " FROM {published} p WHERE NOT EXISTS (SELECT FROM {staged} s WHERE {same})"
        ).format(
            staged=staged,
            columns=sql.SQL(", ").join(map(sql.Identifier, kept)),
            old=sql.SQL(", ").join(sql.Identifier("p", before[name]) for name in kept),
            deleted=sql.Identifier(DELETED_AT),
            since=sql.SQL(since),
            published=published,
            same=sql.SQL(same_key(plan, "s", "p", old="p")),
        )
    )


def repeated_keys(connection: psycopg.Connection[Any], plan: TablePlan) -> list[str]:
    """Return some of the keys that come more than once at the source. Raises psycopg.Error."""
    select = {column.name: column.select for column in plan.columns}
    key = [select[column] for column in plan.key]
    query = sql.SQL("SELECT {} FROM {} GROUP BY {} HAVING count(*) > 1 LIMIT 3").format(
        sql.SQL(names.sample(key)), _source(plan), sql.SQL(", ".join(key))
    )
    return [str(row) for (row,) in connection.execute(query)]


def same_key(plan: TablePlan, left: str, right: str, *, old: str = "") -> str:
    """Return the condition that rows of two relations have the same key.

    In the relation ``old``, the published table before this load, columns have their old names.
    """
    before = _renamed(plan) if old else {}
    return " AND ".join(
        f"{left}.{names.quote(before.get(column, column) if left == old else column)}"
        f" = {right}.{names.quote(before.get(column, column) if right == old else column)}"
        for column in plan.key
    )


def _source_digest(plan: TablePlan) -> sql.Composed:
    key = {column.name: column.select for column in plan.columns}
    expressions = ", ".join(key[column] for column in plan.key)
    return sql.SQL("SELECT {} FROM {}").format(sql.SQL(_DIGEST.format(expressions)), _source(plan))


def _tables(plan: TablePlan) -> tuple[sql.Identifier, sql.Identifier]:
    """Return the names of the published table and of its rows in staging."""
    return (
        sql.Identifier(plan.schema, plan.name),
        sql.Identifier(plan.staging_schema, plan.name),
    )


def _and_live(plan: TablePlan) -> str:
    """Return the condition that a row of the published table ``p`` is not marked as deleted."""
    return f" AND p.{names.quote(DELETED_AT)} IS NULL" if plan.deletes == "mark" else ""


def _old_columns(plan: TablePlan, columns: tuple[str, ...]) -> str:
    """Return the published table's expressions for ``columns``, before it is altered."""
    before = _renamed(plan)
    return ", ".join(
        f"NULL AS {names.quote(column)}"
        if column in plan.added
        else f"p.{names.quote(before.get(column, column))} AS {names.quote(column)}"
        for column in columns
    )


def _renamed(plan: TablePlan) -> dict[str, str]:
    return {new: old for old, new in plan.renamed}


def _source(plan: TablePlan) -> sql.Composed:
    """Return the source's table, with the condition that tells its rows from later ones."""
    where = f" WHERE {plan.leaves}" if plan.leaves else ""
    return sql.SQL("{}{}").format(
        sql.Identifier(plan.source_schema, plan.source_name), sql.SQL(where)
    )


def _key(plan: TablePlan) -> str:
    return ", ".join(map(names.quote, plan.key))

"""Holds the keys of both sides against each other, to find rows that left the source.

First each side adds up the hashes of its keys: equal sums, and nothing else moves. Only if they
differ do the keys themselves come over.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

from ingest import deletes, names, transfer
from ingest.errors import DataError, told
from ingest.relations import (
    listed,
    published_table,
    same_key,
    same_old_key,
    source_table,
    staging_keys,
    staging_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from frame.failure import Failure
    from ingest.plan import TablePlan
    from ingest.workers import Sessions

_CREATED: LiteralString = """
    UPDATE ops.staging SET oids = oids || to_regclass(%s)::oid WHERE (schema, name) = (%s, %s)
"""


class Found(Enum):
    """What a comparison of both sides says."""

    NONE = auto()  # no row has left the source, and none was missed, as far as can be told
    DELETES = auto()  # the warehouse has keys that the source has not
    MISSED_ROWS = auto()  # the source has rows that the cursor did not show


def stage(sessions: Sessions, plan: TablePlan, candidate: sql.Composed, side: str) -> Found:
    """Compare the keys of the source's snapshot with those of ``candidate``.

    That is the query of what the table would hold when published; ``side`` names the source. If
    they differ, the source's keys are in staging afterwards. Raises Failure.
    """
    key = [column for column in plan.target.columns if column.name in plan.target.key]
    selected = {column.name: column.select for column in key}
    with told(side, plan.source):
        there = sessions.source.execute(
            digest((selected[name] for name in plan.target.key), source_table(plan))
        ).fetchall()
    target = sessions.target
    ours = sql.SQL("({}) AS candidate").format(candidate)
    if target.execute(digest(map(sql.Identifier, plan.target.key), ours)).fetchall() == there:
        return Found.NONE
    name, columns = staging_keys(plan), listed(column.name for column in key)
    declared = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(each.name), sql.SQL(each.lands)) for each in key
    )
    kind = sql.SQL(plan.read.format)
    out = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT (FORMAT {})").format(
        sql.SQL(", ").join(selected.values()), source_table(plan), kind
    )
    into = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT {})").format(name, columns, kind)
    with target.transaction():
        target.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(name))
        target.execute(sql.SQL("CREATE TABLE {} ({})").format(name, declared))
        target.execute(_CREATED, [name.as_string(), plan.target.schema, plan.target.name])
        transfer.move(
            transfer.End(sessions.source, out, side, str(plan.source)),
            transfer.End(target, into, "warehouse", str(plan)),
            lambda _: None,
        )
        target.execute(sql.SQL("ANALYZE {}").format(name))
    missed = target.execute(missed_key(plan)).fetchone()
    return Found.DELETES if missed is None else Found.MISSED_ROWS


def missed_key(plan: TablePlan) -> sql.Composed:
    """Return the query of one of the source's keys that is neither published nor staged.

    Each of the two tables is asked by itself, by the index of its key: their union has none, and
    would be made anew for every key.
    """
    return sql.SQL(
        "SELECT FROM {} k WHERE NOT EXISTS (SELECT FROM {} s WHERE {})"
        " AND NOT EXISTS (SELECT FROM {} p WHERE {} AND {}) LIMIT 1"
    ).format(
        staging_keys(plan),
        staging_table(plan),
        same_key(plan, "k", "s"),
        published_table(plan),
        same_old_key(plan, "k"),
        deletes.of(plan).is_live("p"),
    )


def expect_unique(session: psycopg.Connection[Any], plan: TablePlan, side: str) -> None:
    """Raise Failure if keys come more than once at the source, which errors name as ``side``."""
    if not plan.target.key or plan.source.keyed:
        return
    select = {column.name: column.select for column in plan.target.columns}
    key = [select[column] for column in plan.target.key]
    query = sql.SQL("SELECT {} FROM {} GROUP BY {} HAVING count(*) > 1 LIMIT 3").format(
        names.sample(key), source_table(plan), sql.SQL(", ").join(key)
    )
    with told(side, plan.source):
        samples = [str(row) for (row,) in session.execute(query)]
    if samples:
        raise no_key(plan, "keys that come more than once", samples)


def no_key(plan: TablePlan, found: str, samples: Iterable[str]) -> Failure:
    """Return the error of a key that does not tell rows apart, with some of its values."""
    brief = (
        f"table {plan}: expected the key ({', '.join(plan.target.key)}) to tell rows apart,"
        f" found {found}"
    )
    return DataError(
        f"{brief}: {', '.join(samples)}",
        hint="Mend the rows at the source, or name other columns in key; where none tells rows"
        " apart, use load: full with key: [].",
        brief=brief,
    )


def digest(key: Iterable[sql.Composable], relation: sql.Composable) -> sql.Composed:
    """Return the query of the number of a relation's rows, and of the sum of their keys' hashes."""
    return sql.SQL(
        "SELECT count(*), coalesce(sum(pg_catalog.hashtextextended(ROW({})::text, 0)), 0) FROM {}"
    ).format(sql.SQL(", ").join(key), relation)

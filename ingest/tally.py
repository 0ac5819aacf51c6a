"""Holds what was published against what was staged where somebody's rules or triggers interfere.

They may keep rows out, or in, or as they were, without a word: a rule that does something instead,
a trigger that returns NULL.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, LiteralString

from psycopg import sql

from frame.failure import Failure
from ingest import deletes, keys, loads
from ingest.plan import Changes
from ingest.relations import published_table

if TYPE_CHECKING:
    import psycopg

    from ingest.plan import TablePlan
    from ingest.staging import Staged

_WATCHED: LiteralString = """
    SELECT relhasrules OR relhastriggers FROM pg_catalog.pg_class WHERE oid = to_regclass(%s)
"""
Tally = tuple[Any, ...]  # rows, and the sum of their hashes


def expected(connection: psycopg.Connection[Any], staged: Staged) -> Tally | None:
    """Return what the table is to have of the source; None where nothing interferes.

    It has its new columns already.
    """
    name = published_table(staged.plan).as_string()
    if connection.execute(_WATCHED, [name]).fetchone() != (True,):
        return None
    altered = replace(staged, plan=replace(staged.plan, changes=Changes()))
    return _tally(connection, staged.plan, loads.outcome(altered))


def hold(connection: psycopg.Connection[Any], staged: Staged, wanted: Tally | None) -> None:
    """Raise Failure unless the table has what was :func:`expected`."""
    if wanted is None:
        return
    plan = staged.plan
    live = deletes.of(plan).is_live("p")
    found = _tally(
        connection, plan, sql.SQL("SELECT * FROM {} p WHERE {}").format(published_table(plan), live)
    )
    if found != wanted:
        raise Failure(
            f"warehouse: table {plan}: expected the {wanted[0]} rows of the source when this load"
            f" is in, found {found[0]} and not the same: a rule or a trigger that somebody gave it"
            " keeps rows out, or in, or as they were",
            hint="Drop the rule or trigger, or give it to a view or a copy of the table.",
        )


def _tally(connection: psycopg.Connection[Any], plan: TablePlan, query: sql.Composed) -> Tally:
    columns = map(sql.Identifier, plan.target.names)
    relation = sql.SQL("({}) AS counted").format(query)
    ((rows, total),) = connection.execute(keys.digest(columns, relation)).fetchall()
    return rows, total

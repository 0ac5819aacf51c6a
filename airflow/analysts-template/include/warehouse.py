"""Tables of our own in the warehouse, built from the raw ones."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from airflow.providers.postgres.hooks.postgres import PostgresHook

if TYPE_CHECKING:
    from collections.abc import Iterable

SCHEMA = "marts"  # the one schema in which our role may create


def rebuild(table: str, query: str, *, needs: Iterable[str]) -> int:
    """Build ``marts.<table>`` again from ``query`` in one transaction; return its number of rows.

    ``needs`` are the published tables that the query reads, each as ``schema.table``. Readers see
    the old table until the new one is whole. Raises LookupError if a needed table is not there.
    """
    hook = PostgresHook(postgres_conn_id="warehouse")
    with closing(hook.get_conn()) as connection:
        cursor = connection.cursor()
        for name in needs:
            cursor.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
            if cursor.fetchone() != (True,):
                source = name.partition(".")[0].removeprefix("raw_")
                raise LookupError(
                    f"table {name}: expected it in the warehouse, found none\n"
                    f"HINT: Run the DAG ingest_{source}, which publishes it, then clear this task."
                )
        cursor.execute(f"DROP TABLE IF EXISTS {SCHEMA}.{table}")
        cursor.execute(f"CREATE TABLE {SCHEMA}.{table} AS {query}")
        rows = int(cursor.rowcount)
        connection.commit()
    return rows

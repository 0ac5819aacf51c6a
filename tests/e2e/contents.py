"""What a database of the platform holds."""

from __future__ import annotations

import psycopg
from psycopg import sql

from scripts.local import databases


def contents(database: str, schema: str) -> dict[str, tuple[int, str]]:
    """Return row count and a digest over all rows as text of every table of ``schema``.

    A partitioned table is one, as it is in the warehouse.
    """
    digest = sql.SQL(
        "SELECT count(*), coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")),"
        " '') FROM {} AS t"
    )
    with psycopg.connect(databases.superuser(database), connect_timeout=10) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET extra_float_digits = 3")
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
            " AND relkind IN ('r', 'p') AND NOT relispartition",
            [schema],
        ).fetchall()
        return {
            name: connection.execute(digest.format(sql.Identifier(schema, name))).fetchone() or ()
            for (name,) in tables
        }

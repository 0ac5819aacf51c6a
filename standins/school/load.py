"""Load one of the school's databases: schema and rows, all or nothing, once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

from psycopg import sql

from . import hr, records, service_desk
from .errors import OccupiedError, SchoolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from psycopg import Connection, Cursor

    from .table import Row, Table

TABLES: dict[str, tuple[Table, ...]] = {
    "hr": hr.TABLES,
    "records": records.TABLES,
    "service_desk": service_desk.TABLES,
}
DATABASES = tuple(TABLES)
# The advisory lock of whoever loads or mutates; any number that nothing else here takes.
_LOCK = 0x5C4001
_STEP = 1000
# Goes up whenever the same (scale, seed) comes to mean other rows or columns. The first edition
# did not write its number.
EDITION = 2

# Relations and types of public, save those that belong to an extension.
_FOUND = """
SELECT what, name FROM (
  SELECT oid, CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
                           WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE'
                           ELSE 'TABLE' END AS what,
         oid::regclass::text AS name, position(relkind IN 'vmrpfS') AS place
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v','m','r','p','f','S')
  UNION ALL
  SELECT oid, 'TYPE', oid::regtype::text, 9
  FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r')
) AS found
WHERE NOT EXISTS (SELECT FROM pg_depend WHERE objid = found.oid AND deptype = 'e')
ORDER BY place, name
"""


@dataclass(frozen=True)
class Mark:
    """What a database holds; kept as the comment on its schema ``public``.

    Two editions of this generator make different databases of one (scale, seed).
    """

    database: str
    scale: float
    seed: int
    edition: int = EDITION

    def __str__(self) -> str:
        edition = "" if self.edition == 1 else f", edition {self.edition}"
        held = f"{self.database}, scale {self.scale!r}, seed {self.seed}{edition}"
        return f"Harmattan's school: {held}"

    def replaces(self, held: Mark | None) -> bool:
        """Return whether ``held`` is the same school from an older edition."""
        return (
            held is not None
            and held.edition < self.edition
            and (held.database, held.scale, held.seed) == (self.database, self.scale, self.seed)
        )

    @classmethod
    def read(cls, cursor: Cursor[Any]) -> Mark | None:
        """Return the mark of the database, or None if it has none."""
        cursor.execute("SELECT obj_description('public'::regnamespace, 'pg_namespace')")
        row = cursor.fetchone()
        form = r"Harmattan's school: (\w+), scale (\S+), seed (-?\d+)(?:, edition (\d+))?"
        found = re.fullmatch(form, (row and row[0]) or "")
        return found and cls(found[1], float(found[2]), int(found[3]), int(found[4] or 1))

    def write(self, cursor: Cursor[Any]) -> None:
        """Write the mark into the database."""
        cursor.execute(sql.SQL("COMMENT ON SCHEMA public IS {}").format(sql.Literal(str(self))))


@dataclass(frozen=True)
class Loaded:
    """What ``load`` did: rows by table, or nothing if the same was ``already_there``."""

    mark: Mark
    already_there: bool = False
    rows: dict[str, int] = field(default_factory=dict)


def load(
    connection: Connection[Any],
    database: str,
    scale: float,
    seed: int,
    *,
    replace: bool = False,
    progress: Callable[[str, int], None] | None = None,
) -> Loaded:
    """Fill the database behind ``connection`` with the school's ``database``, in one transaction.

    A database that holds the same (scale, seed) is left alone, whatever ``mutate`` has changed in
    it since. ``replace`` drops another (scale, seed) or edition with all that is in its schema
    public first; the grants come back only where default privileges give them. ``progress`` is
    told a table and its rows so far. The role must own the database, or its schema public.

    Raises:
        OccupiedError: the database holds another (scale, seed) or edition, or what is not the
            school's.
        SchoolError: there is no such database or scale.
    """
    mark = Mark(database, _checked(database, scale), seed)
    rows: dict[str, int] = {}
    with connection.transaction(), connection.cursor() as cursor:
        _begin(cursor)
        found, there = Mark.read(cursor), cursor.execute(_FOUND).fetchall()
        if found == mark:
            return Loaded(mark, already_there=True)
        if found and not replace:
            raise OccupiedError(
                f"the database holds {found}, not {mark}\n"
                "HINT: Say --replace to drop what it holds, or use another database."
            )
        if there and not found:
            raise OccupiedError(
                f"the database holds {len(there)} objects of its own, the first {there[0][1]}\n"
                "HINT: Use an empty database; only a school is ever replaced."
            )
        for what, name in there:
            cursor.execute(f"DROP {what} IF EXISTS {name} CASCADE".encode())
        schema = files(__package__).joinpath(f"{database}.sql").read_bytes()
        cursor.execute(schema)
        for table in TABLES[database]:
            copied = copy(cursor, table, table.rows(seed, mark.scale), progress)
            if table.sequence:
                cursor.execute("SELECT setval(%s::regclass, %s)", (table.sequence, copied))
            rows[table.name] = copied
        mark.write(cursor)
        names = sql.SQL(", ").join(sql.Identifier(name) for name in rows)
        cursor.execute(sql.SQL("ANALYZE {}").format(names))
    return Loaded(mark, rows=rows)


def copy(
    cursor: Cursor[Any],
    table: Table,
    rows: Iterable[Row],
    progress: Callable[[str, int], None] | None = None,
) -> int:
    """Stream ``rows`` into ``table`` and return how many there were."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )
    count = 0
    with cursor.copy(statement) as stream:
        for count, row in enumerate(rows, start=1):
            stream.write_row(row)
            if progress and count % _STEP == 0:
                progress(table.name, count)
    if progress:
        progress(table.name, count)
    return count


def marked(cursor: Cursor[Any], database: str) -> Mark:
    """Begin to change a loaded ``database`` and return its mark.

    Raises:
        SchoolError: it does not hold that database of a school, or another edition of it.
    """
    _begin(cursor)
    found = Mark.read(cursor)
    if found is None or found.database != database:
        raise SchoolError(
            f"expected the school's {database}, found {found or 'no school'}\n"
            "HINT: Load it first, or name the database that the connection leads to."
        )
    if found.edition != EDITION:
        raise SchoolError(
            f"expected edition {EDITION} of the school's {database}, found {found.edition}\n"
            "HINT: Load it again with --replace."
        )
    return found


def _begin(cursor: Cursor[Any]) -> None:
    # The session's own settings must not reach the rows; both end with the transaction.
    cursor.execute("SET LOCAL search_path = public")
    cursor.execute("SET LOCAL TimeZone = 'UTC'")
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def _checked(database: str, scale: float) -> float:
    if database not in TABLES:
        raise SchoolError(
            f"expected a database of the school, found {database!r}\n"
            f"HINT: Choose one of {', '.join(DATABASES)}."
        )
    if not (math.isfinite(scale) and scale > 0):
        raise SchoolError(
            f"expected a scale above 0, found {scale}\n"
            "HINT: 1.0 makes about 130,000 rows in all, 0.01 is for small tests."
        )
    return float(scale)

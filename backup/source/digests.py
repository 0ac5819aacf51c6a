"""The digest of one table, taken so that no code of the database's users runs.

In each manner it is the sum over the rows of a 64-bit hash, or one of 128 bits, of the row's text
under settings that make it the same everywhere; so it does not depend on the rows' order. What the
manner is stands in front of it.

``columns:`` is made by the server: PostgreSQL's hash of each value's text, joined to one of the
row. Every function is named with its schema and takes exactly what it is given, so that no cast or
operator of a user comes in between. Planning such a query still computes constants in expressions
of the table's indexes and statistics. Where those use anything that did not come with PostgreSQL,
or where the server cannot do it, it is ``copy:``: the lines of COPY, hashed here. COPY plans
nothing, and is what pg_dump itself runs.

A digest without a manner is of an older manifest: the server's hash of the whole row's text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, LiteralString

import psycopg
from psycopg import sql

from backup.postgres.names import Quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.postgres.connection import Connection
    from backup.postgres.names import Name

    # What a table holds: its rows, and their digest with its manner, None if they are only counted.
    Taken = tuple[int, str | None]

Manner = Literal["columns", "copy", "row", "count"]

# A value's text, and nothing else, is to decide: not what a role or a database sets for itself.
# Rows that a policy hides are an error, never a smaller table. Constraints are not looked at.
SETTINGS: LiteralString = """
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
SET extra_float_digits = 3;
SET bytea_output = 'hex';
SET lc_monetary = 'C';
SET quote_all_identifiers = off;
SET row_security = off;
SET constraint_exclusion = off;
"""
# Below, all is PostgreSQL's own. Above, it is somebody's who made this database what it is.
_FIRST_OF_USERS = 16384
_FIRST_UNPINNED = 12000
# The lock is held by now: a name that leads elsewhere than in the snapshot is another table's. What
# an index or a statistics object depends on besides its own table is what its expressions call.
_SHAPE: LiteralString = """
SELECT c.relkind = 'r'
         AND to_regclass(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) = c.oid,
       c.relpersistence = 'u' AND pg_is_in_recovery(),
       EXISTS (SELECT FROM pg_index i JOIN pg_depend d
                 ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
               WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL)
                 AND d.refobjid >= %(users)s
                 AND d.refclassid NOT IN ('pg_class'::regclass, 'pg_constraint'::regclass))
       OR EXISTS (SELECT FROM pg_statistic_ext s JOIN pg_depend d
                    ON d.classid = 'pg_statistic_ext'::regclass AND d.objid = s.oid
                  WHERE s.stxrelid = c.oid AND d.refobjid >= %(users)s
                    AND d.refclassid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass)),
       a.attname, a.attgenerated <> '', a.attlen,
       CASE WHEN t.typtype <> 'd' AND p.oid < %(unpinned)s THEN p.proname END,
       CASE WHEN t.oid < %(unpinned)s THEN t.typname END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (pg_attribute a
           JOIN pg_type t ON t.oid = a.atttypid JOIN pg_proc p ON p.oid = t.typoutput)
  ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = %(schema)s AND c.relname = %(table)s
ORDER BY a.attnum
"""
# Types of which the hash of the value is as good as that of its text. Not int8: its hash has but 32
# bits of the value.
_HASHES: dict[str | None, LiteralString] = {
    "int2": "pg_catalog.hashint2extended({}, {})",
    "int4": "pg_catalog.hashint4extended({}, {})",
    "uuid": "pg_catalog.uuid_hash_extended({}, {})",
    "text": 'pg_catalog.hashtextextended({} COLLATE pg_catalog."C", {})',
    "varchar": 'pg_catalog.hashtextextended({} COLLATE pg_catalog."C", {})',
}
_HASH_OF_TEXT: LiteralString = (
    'pg_catalog.hashtextextended(pg_catalog.textin({}) COLLATE pg_catalog."C", {})'
)
_SUM: LiteralString = "SELECT pg_catalog.count(*), pg_catalog.sum({}) FROM ONLY {} AS t"
_COUNT: LiteralString = "SELECT pg_catalog.count(*) FROM ONLY {} AS t"


@dataclass(frozen=True)
class Column:
    """A column; ``output`` is its type's output function and ``type_name`` its type if pinned."""

    name: str
    generated: bool
    length: int
    output: str | None
    type_name: str | None


@dataclass(frozen=True)
class Shape:
    """What the catalogue says of one table; ``runs_code`` if planning a query of it would."""

    table: Name
    columns: tuple[Column, ...]
    runs_code: bool


class Unreadable(psycopg.DatabaseError):
    """A table cannot be read, for the reason that it says in our own words."""


def look(connection: Connection, table: Name) -> Shape:
    """Return the shape of ``table``, which the session's transaction has locked.

    Raises psycopg.Error.
    """
    asked = {
        "schema": table[0],
        "table": table[1],
        "users": _FIRST_OF_USERS,
        "unpinned": _FIRST_UNPINNED,
    }
    rows = connection.execute(_SHAPE, asked).fetchall()
    if not rows or not rows[0][0]:
        raise Unreadable("another relation has its name by now")
    if rows[0][1]:
        raise Unreadable("unlogged, and a standby has no rows of it")
    columns = tuple(Column(*row[3:]) for row in rows if row[3] is not None)
    return Shape(table, columns, rows[0][2])


def take(connection: Connection, shape: Shape, manner: Manner) -> Taken:
    """Return what the table holds, in the transaction that locked it. Raises psycopg.Error."""
    if manner == "copy":
        return _by_copy(connection, shape)
    table = Quoted(*shape.table)
    if manner == "count":
        if shape.runs_code:
            return _by_copy(connection, shape, count_only=True)
        ((rows,),) = connection.execute(sql.SQL(_COUNT).format(table)).fetchall()
        return rows, None
    whole = sql.SQL(_HASH_OF_TEXT).format(sql.SQL("pg_catalog.record_out(t.*)"), _number(0))
    hashed = whole if manner == "row" else _row_hash(shape.columns)
    ((rows, total),) = connection.execute(sql.SQL(_SUM).format(hashed, table)).fetchall()
    return rows, f"{'' if manner == 'row' else 'columns:'}{total or 0:f}"


def manner_of(digest: str | None) -> Manner:
    """Return how a digest of a table was made."""
    if digest is None:
        return "count"
    front, colon, _ = digest.partition(":")
    if not colon:
        return "row"
    return "copy" if front == "copy" else "columns"


def _row_hash(columns: Sequence[Column]) -> sql.Composable:
    """Return the expression of a row's hash: of its columns' hashes, each with its place."""
    hashes: list[sql.Composable] = [
        sql.SQL("COALESCE({}, {})").format(_column_hash(column, place), _number(place))
        for place, column in enumerate(columns, 1)
    ]
    hashes = hashes or [_number(0)]
    while len(hashes) > 1:  # as a tree, which 1,600 columns do not make too deep for the parser
        hashes = [
            sql.SQL("pg_catalog.int8xor({}, {})").format(*hashes[at : at + 2])
            if at + 1 < len(hashes)
            else hashes[at]
            for at in range(0, len(hashes), 2)
        ]
    return sql.SQL(_HASH_OF_TEXT).format(
        sql.SQL("pg_catalog.int8out({})").format(*hashes), _number(0)
    )


def _column_hash(column: Column, place: int) -> sql.Composable:
    value = sql.SQL("{}.{}").format(Quoted("t"), Quoted(column.name))
    if column.type_name in _HASHES:
        return sql.SQL(_HASHES[column.type_name]).format(value, _number(place))
    if column.type_name == "bytea":  # its text is twice as long
        value, output = sql.SQL("pg_catalog.sha256({})").format(value), "byteaout"
    elif column.output is None:  # a domain, or an extension's type
        value, output = sql.SQL("ROW({})").format(value), "record_out"
    else:
        output = column.output
    text = sql.SQL("{}({})").format(Quoted("pg_catalog", output), value)
    return sql.SQL(_HASH_OF_TEXT).format(text, _number(place))


def _number(number: int) -> sql.Composable:
    return sql.SQL(f"'{number:d}'::pg_catalog.int8")


def _by_copy(connection: Connection, shape: Shape, *, count_only: bool = False) -> Taken:
    """Hash the lines of COPY, each a row: 128 bits of it, summed up."""
    columns = [column for column in shape.columns if not column.generated]
    if count_only:  # the narrowest will do
        columns = sorted(columns, key=lambda column: (column.length < 0, column.length))[:1]
    names = sql.SQL("({})").format(sql.SQL(", ").join(Quoted(column.name) for column in columns))
    query = sql.SQL("COPY {} {} TO STDOUT (ENCODING {})").format(
        Quoted(*shape.table),
        names if columns else sql.SQL(""),
        # As the values are kept: some have no counterpart elsewhere.
        sql.Literal(connection.info.parameter_status("server_encoding")),
    )
    rows, total = 0, 0
    with connection.cursor().copy(query) as lines:
        for line in lines:
            rows += 1
            if not count_only:
                total += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest(), "big")
    return rows, None if count_only else f"copy:{total % (1 << 128)}"


_REASONS = {
    "42501": "a right is missing",
    "42883": "a function is missing",
    "42704": "an object is missing",
    "58P01": "a file is missing",
    "53200": "out of memory",
    "54000": "too wide for one text",
    "54001": "too deep for the server's stack",
    "55P03": "locked by another session",
    "57014": "cancelled, or over a time limit",
    "58030": "the disk cannot be read",
    "XX000": "damaged, or a fault of the server",
    "XX001": "a page is damaged",
    "XX002": "an index is damaged",
}


def reason(error: psycopg.Error) -> str:
    """Return why something could not be taken, in words that show no value of a row."""
    if isinstance(error, Unreadable):
        return str(error)
    state = error.sqlstate
    if state is None or state.startswith(("08", "57P")):
        return "the session was lost"
    if state == "53200" and "Lock" in (error.diag.source_function or ""):
        return "no locks left: raise max_locks_per_transaction"
    words = _REASONS.get(state, f"PostgreSQL's error {error.diag.source_function or ''}".strip())
    return f"{words} (SQLSTATE {state})"

"""Table names and patterns as analysts write them, by PostgreSQL's own rules of identifiers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 63  # NAMEDATALEN - 1: PostgreSQL cuts a longer name without a word
_SAMPLE = 100  # characters of a row's key
_PART = r'"(?:[^"\0]|"")+"|[^\W\d][\w$]*'
_NAME = re.compile(rf'(?P<schema>{_PART})\.(?P<table>"(?:[^"\0]|"")+"|[\w$*]+)')


@dataclass(frozen=True)
class TableName:
    """One table, or with ``pattern`` all tables of ``schema`` whose names match ``table``."""

    schema: str
    table: str
    pattern: bool = False

    def matches(self, schema: str, table: str) -> bool:
        """Return whether this names the table; ``*`` in a pattern stands for any characters."""
        if schema != self.schema:
            return False
        if not self.pattern:
            return table == self.table
        wanted = ".*".join(re.escape(piece) for piece in self.table.split("*"))
        return re.fullmatch(wanted, table, re.DOTALL) is not None


def parse(text: str) -> TableName:
    """Read ``schema.table``, ``schema."Table"`` or ``schema.pre*``.

    Without quotes a name folds to lower case (ASCII letters only, as PostgreSQL does in UTF-8)
    and ``*`` is a wildcard; within them every character stands for itself.

    Raises ValueError, saying what was expected.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ValueError('expected schema.table, schema."Table" or a pattern such as schema.*')
    schema, table = _unquote(found["schema"]), _unquote(found["table"])
    pattern = "*" in found["table"] and not found["table"].startswith('"')
    if not pattern and not found["table"].startswith('"') and found["table"][0] in "0123456789$":
        raise ValueError("expected quotes around a name that does not begin with a letter")
    for part in (schema, table):
        check_length(part)
    return TableName(schema, table, pattern)


def display(schema: str, table: str) -> str:
    """Return ``schema.table`` with quotes where SQL and :func:`parse` need them."""
    return f"{_short(schema)}.{_short(table)}"


def quote(name: str) -> str:
    """Return ``name`` as a quoted identifier of SQL."""
    return sql.Identifier(name).as_string()


def qualified(schema: str, name: str) -> str:
    """Return ``schema.name`` as quoted identifiers of SQL."""
    return sql.Identifier(schema, name).as_string()


def sample(columns: Iterable[sql.Composable]) -> sql.Composed:
    """Return the expression of a row's key as people are shown it, cut to a length.

    ``columns`` are expressions of SQL. Values of rows leave the warehouse by it alone.
    """
    return sql.SQL("pg_catalog.left(ROW({})::text, {})").format(
        sql.SQL(", ").join(columns), sql.Literal(_SAMPLE)
    )


def suffixed(name: str, suffix: str) -> str:
    """Return ``name`` with ``suffix``; a name too long for that keeps its beginning and a hash."""
    whole = name + suffix
    if len(whole.encode()) <= MAX_BYTES:
        return whole
    mark = "_" + hashlib.sha256(name.encode()).hexdigest()[:8] + suffix
    return name.encode()[: MAX_BYTES - len(mark.encode())].decode(errors="ignore") + mark


def helper(name: str, purpose: str) -> str:
    """Return the name of what stands in staging beside the table ``name``, for ``purpose``.

    With a digest: a source may well have a table ``staff~keys``, and what helps to load the table
    staff is dropped and made without a question.
    """
    digest = hashlib.sha256(f"{purpose} {name}".encode()).hexdigest()[:16]
    return suffixed(name, f"~{purpose}_{digest}")


def is_long(name: str) -> bool:
    """Return whether PostgreSQL would cut ``name``, of a database of single bytes, in UTF-8."""
    return len(name.encode(errors="surrogatepass")) > MAX_BYTES


def check_length(name: str, limit: int = MAX_BYTES) -> None:
    """Raise ValueError if ``name`` is not text of at most ``limit`` bytes in UTF-8."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ValueError("expected valid Unicode, found a lone surrogate") from None
    if size > limit:
        raise ValueError(f"expected a name of at most {limit} bytes, found {size}")


def _unquote(part: str) -> str:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    return "".join(letter.lower() if letter.isascii() else letter for letter in part)


def _short(part: str) -> str:
    return part if re.fullmatch(r"[a-z_][a-z0-9_$]*", part) else quote(part)

"""Names of objects in databases of every encoding: as text here, as the same bytes there.

A session speaks UTF-8 wherever the server can convert to it. It cannot from SQL_ASCII, which has no
meaning beyond 127, nor from MULE_INTERNAL: there, bytes pass as they are, and those that are no
UTF-8 are kept in text as PEP 383 has it (surrogateescape).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import adapt, sql
from psycopg.types.string import StrDumper

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg
    from psycopg.abc import AdaptContext, Buffer

Name = tuple[str, str]  # a schema, and what is called so in it
LISTED = 20  # names in one message
UNCONVERTED = ("SQL_ASCII", "MULE_INTERNAL")
_KEPT = "surrogateescape"
_ANY_TYPE = 0  # of psycopg: what it has no loader of its own for
_TEXTS = ("text", "name", "varchar", "bpchar", '"char"', _ANY_TYPE)


class _TextLoader(adapt.Loader):
    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", _KEPT)


class _TextDumper(StrDumper):
    def dump(self, obj: str) -> bytes:
        return obj.encode("utf-8", _KEPT)


def settle_encoding(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Have text of the session, which was opened with SQL_ASCII, be text here."""
    if connection.info.parameter_status("server_encoding") not in UNCONVERTED:
        connection.execute("SET client_encoding = 'UTF8'")
        return
    connection.adapters.register_dumper(str, _TextDumper)
    for kind in _TEXTS:
        connection.adapters.register_loader(kind, _TextLoader)


class Quoted(sql.Composable):
    """The name of an object, behind that of its schema if it has one, as an SQL identifier."""

    def __init__(self, *parts: str) -> None:
        super().__init__(parts)

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        """Return it in the bytes that the server knows it by."""
        parts = (part.encode("utf-8", _KEPT).replace(b'"', b'""') for part in self._obj)
        return b".".join(b'"' + part + b'"' for part in parts)


def quoted(name: str) -> str:
    """Return ``name`` as an identifier in the text of a statement."""
    return '"' + name.replace('"', '""') + '"'


def printable(name: str) -> str:
    """Return ``name`` for people and JSON, with each byte that is no UTF-8 spelt out."""
    return name.encode("utf-8", _KEPT).decode("utf-8", "backslashreplace")


def on_one_line(name: str) -> str:
    """Return ``name`` as pg_dump and pg_restore tell it: with spaces for line breaks."""
    return name.replace("\n", " ").replace("\r", " ")


def on_screen(name: str) -> str:
    """Return ``name`` without what would break a line, or steer a terminal."""
    return "".join(each if each.isprintable() else " " for each in name)


def listed(names: Iterable[str]) -> str:
    """Return the names in one line, or the first of them and how many there are more."""
    there = tuple(names)
    more = f" and {len(there) - LISTED} more" if len(there) > LISTED else ""
    return ", ".join(there[:LISTED]) + more

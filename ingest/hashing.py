"""Hashes of columns, made by the source itself with a key that no log, query or option shows.

The key of each source is derived from that of the connection: whoever owns one source cannot try
guesses against the hashes of another. A source's sessions get it masked by random bytes that the
server chose and that only an answer held: servers and poolers log what they are asked, parameters
among it, and never what they answer.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import unquote, urlsplit

from psycopg import sql

from ingest.errors import UnknownConnectionError

if TYPE_CHECKING:
    import psycopg

    from ingest.connections import Entry

_BLOCK = 64  # bytes, of SHA-256
_LEAST_KEY = 16  # characters
# 128 random bytes of the server's, which hold for this transaction.
_CHOOSE: LiteralString = """
    SELECT set_config('harmattan.mask', string_agg(encode(sha256(convert_to(
      gen_random_uuid()::text || gen_random_uuid()::text || part, 'UTF8')), 'hex'), ''), true)
    FROM generate_series(1, 4) AS part
"""
_UNMASK: LiteralString = """
    WITH pads AS (
      SELECT string_agg(lpad(to_hex(get_byte(mask, n) # get_byte(masked, n)), 2, '0'), ''
                        ORDER BY n) AS digits
      FROM decode(current_setting('harmattan.mask'), 'hex') AS mask, decode(%s, 'hex') AS masked,
           generate_series(0, 127) AS n
    )
    SELECT set_config('harmattan.inner_pad', substr(digits, 1, 128), true) = '',
           set_config('harmattan.outer_pad', substr(digits, 129), true) = '',
           set_config('harmattan.mask', '', true) = ''
    FROM pads
"""


@dataclass(frozen=True)
class HashKey:
    """The key of one source; never printed. ``mark`` tells keys apart, and nothing else of them."""

    mark: str
    _pads: bytes = field(repr=False)

    def give(self, session: psycopg.Connection[Any]) -> None:
        """Let ``session`` hash until its transaction ends. Raises psycopg.Error."""
        ((mask,),) = session.execute(_CHOOSE).fetchall()
        masked = bytes(
            ours ^ theirs for ours, theirs in zip(self._pads, bytes.fromhex(mask), strict=True)
        )
        session.execute(_UNMASK, [masked.hex()])


def key(entry: Entry, source: str) -> HashKey:
    """Return the key of ``source``, derived from the password of ``entry``.

    HMAC-SHA256 needs it joined with two pads (RFC 2104). Raises UnknownConnectionError.
    """
    shared = str(entry.parts.get("password") or "").encode()
    if not shared and "://" in entry.uri:
        shared = unquote(urlsplit(entry.uri).password or "").encode()
    if len(shared) < _LEAST_KEY:
        raise UnknownConnectionError(
            f"connection {entry.id}: expected a key of at least {_LEAST_KEY} characters as its"
            f" password, found {len(shared)}",
            hint="Make one at random and keep it: with another key every hash changes.",
        )
    own = hmac.digest(shared, f"harmattan: key of source {source}".encode(), sha256)
    mark = hmac.digest(own, b"harmattan: mark of this key", sha256).hex()[:8]
    block = own.ljust(_BLOCK, b"\0")
    return HashKey(mark, bytes(byte ^ pad for pad in (0x36, 0x5C) for byte in block))


def expression(column: sql.Identifier, kind: str) -> sql.Composed:
    """Return the hash of a column whose type is ``kind``, its name without its schema.

    Values that are equal have one hash: numbers lose the zeros at their end, a negative zero its
    sign, and citext its case.
    """
    match kind:
        case "numeric":
            text = sql.SQL("trim_scale({})::text")
        case "float4" | "float8":
            text = sql.SQL("({} + 0)::text")
        case "citext":
            text = sql.SQL("lower({}::text)")
        case _:
            text = sql.SQL("{}::text")
    return sql.SQL(
        "encode(sha256(decode(current_setting('harmattan.outer_pad'), 'hex')"
        " || sha256(decode(current_setting('harmattan.inner_pad'), 'hex')"
        " || convert_to({}, 'UTF8'))), 'hex')"
    ).format(text.format(column))

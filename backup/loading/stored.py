"""Integers and texts as an archive of pg_dump stores them."""

from __future__ import annotations

from typing import IO

LONGEST = 1 << 30  # bytes of one text; PostgreSQL has none that is longer


class Reader:
    """Reads them, and keeps in ``taken`` what it has read. ``encoding`` is Python's name."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Read from where ``stream`` is."""
        self._stream = stream
        self.taken = bytearray()
        self.integer_bytes = 4
        self.encoding = "utf-8"

    def bytes(self, count: int) -> bytes:
        """Read exactly ``count`` bytes. Raises EOFError."""
        block = self._stream.read(count) if count else b""
        if len(block) != count:
            raise EOFError("it ends within its head")
        self.taken += block
        return block

    def integer(self) -> int:
        """Read a byte for the sign, then the lowest byte first."""
        stored = self.bytes(1 + self.integer_bytes)
        value = int.from_bytes(stored[1:], "little")
        return -value if stored[0] else value

    def text(self) -> str | None:
        """Read a length, less than 0 for a text that is not there, and the text."""
        length = self.integer()
        if length > LONGEST:
            raise ValueError(f"it has a text of {length} bytes in its head")
        if length < 0:
            return None
        return self.bytes(length).decode(self.encoding, "surrogateescape")


class Writer:
    """The counterpart of :class:`Reader`."""

    def __init__(self, integer_bytes: int, encoding: str) -> None:
        """Begin with nothing in ``written``."""
        self.written = bytearray()
        self._integer_bytes = integer_bytes
        self._encoding = encoding

    def integer(self, value: int) -> None:
        """Write a byte for the sign, then the lowest byte first."""
        sign = b"\1" if value < 0 else b"\0"
        self.written += sign + abs(value).to_bytes(self._integer_bytes, "little")

    def text(self, text: str | None) -> None:
        """Write a length, -1 for a text that is not there, and the text."""
        if text is None:
            self.integer(-1)
            return
        stored = text.encode(self._encoding, "surrogateescape")
        self.integer(len(stored))
        self.written += stored

"""The lines of a log that comes in pieces, and the summary that ends it."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

# Bytes of a line that are shown, and of a summary that is believed.
LONGEST = 16 * 1024
# Objects and lists within one another that a summary may have.
DEEPEST = 32
_UNSTORED = re.compile("[\0\ud800-\udfff]")


@dataclass
class Lines:
    """Makes lines of the pieces of one stream; ``taken`` counts the bytes of all whole lines.

    Whoever begins again at ``taken`` reads no line twice and misses none.
    """

    taken: int
    _rest: bytes = b""
    _cut: int = 0  # bytes of the present line that were not kept

    @property
    def offset(self) -> int:
        """Where in the stream the next piece begins."""
        return self.taken + len(self._rest) + self._cut

    def feed(self, piece: bytes) -> list[str]:
        """Return the lines that ``piece`` completes."""
        *whole, rest = (self._rest + piece).split(b"\n")
        lines = []
        for line in whole:
            lines.append(self._shown(line))
            self.taken += len(line) + self._cut + 1
            self._cut = 0
        self._rest = rest[:LONGEST]
        self._cut += len(rest) - len(self._rest)
        return lines

    def end(self) -> list[str]:
        """Return the last line if nothing ended it."""
        return self.feed(b"\n") if self._rest else []

    def _shown(self, line: bytes) -> str:
        shown = line[:LONGEST].decode("utf-8", "replace").rstrip("\r")
        return f"{shown} …" if self._cut or len(line) > LONGEST else shown


def summary(tail: bytes) -> dict[str, Any] | None:
    """Return the last line of ``tail`` that is a JSON object of at most LONGEST bytes, if any is.

    ``tail`` may begin in the middle of a line.
    """
    for line in reversed(tail.split(b"\n")):
        if line.lstrip()[:1] == b"{" and len(line) <= LONGEST:
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and _is_plain(value):
                return value
    return None


def _is_plain(value: Any, depth: int = DEEPEST) -> bool:
    """Return whether Airflow can carry the value to its database, and makes no object of it.

    What the messages between its processes, or jsonb, do not take would end the triggerer.
    """
    match value:
        case dict():
            names = all(_is_plain(name) and not name.startswith("__") for name in value)
            return names and depth > 0 and all(_is_plain(e, depth - 1) for e in value.values())
        case list():
            return depth > 0 and all(_is_plain(each, depth - 1) for each in value)
        case str():
            return _UNSTORED.search(value) is None
        case bool() | None:
            return True
        case int():
            return -(2**63) <= value < 2**63
        case _:
            return math.isfinite(value)

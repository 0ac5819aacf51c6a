"""Whether an SPDX expression, such as ``MIT AND (Apache-2.0 OR GPL-3.0-only)``, is open source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

_WORDS = re.compile(r"[()]|[^\s()]+")
_OPERATORS = ("AND", "OR", "WITH")


def is_open(expression: str, identifiers: Collection[str]) -> bool:
    """Return whether ``expression`` lets one use the work under ``identifiers`` alone.

    Of ``A OR B`` one must be among them, of ``A AND B`` both. What stands after ``WITH`` only adds
    permissions. A text that is no expression is not open.
    """
    try:
        return _Expression(expression, identifiers).value()
    except ValueError:
        return False


class _Expression:
    """A descent through the words of one expression; AND binds tighter than OR."""

    def __init__(self, text: str, identifiers: Collection[str]) -> None:
        self.words: list[str] = _WORDS.findall(text)
        self.identifiers = identifiers

    def value(self) -> bool:
        value = self._choice()
        if self.words:
            raise ValueError(f"{self.words[0]!r} follows a whole expression")
        return value

    def _choice(self) -> bool:
        value = self._all()
        while self._take("OR"):
            # Both sides are read, whatever the first says.
            value = self._all() or value
        return value

    def _all(self) -> bool:
        value = self._one()
        while self._take("AND"):
            value = self._one() and value
        return value

    def _one(self) -> bool:
        if self._take("("):
            value = self._choice()
            if not self._take(")"):
                raise ValueError("a parenthesis is not closed")
            return value
        value = self._identifier() in self.identifiers
        if self._take("WITH"):
            self._identifier()
        return value

    def _identifier(self) -> str:
        if not self.words or self.words[0] in (*_OPERATORS, "(", ")"):
            raise ValueError("a licence is missing")
        return self.words.pop(0)

    def _take(self, word: str) -> bool:
        if self.words[:1] != [word]:
            return False
        del self.words[0]
        return True

"""The SQL that PostgreSQL's own dump programs write, statement by statement.

What they write for psql is not given to psql: it takes a line that begins with a backslash for a
command of its own, and a name can hold such a line (CVE-2025-8714 and its kind).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backup.postgres.names import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<space> \s+ | --[^\n]* )
  | (?P<meta> \\[^\n]* )
  | (?P<name> "(?:[^"]|"")*" )
  | (?P<string> [eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' )
  | (?P<dollar> \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
  | (?P<word> [^\W\d]\w* )
  | (?P<number> -?\d+ (?:\.\d+)? )
  | (?P<end> ; )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A word, a quoted name, a text or a sign, as it was written; ``at`` is where in the script."""

    kind: str
    text: str
    at: int

    def is_word(self, *words: str) -> bool:
        """Tell whether this is one of ``words``, which are in upper case, and not a quoted name."""
        return self.kind == "word" and self.text.upper() in words

    @property
    def name(self) -> str:
        """The identifier that this token stands for."""
        if self.kind == "name":
            return self.text[1:-1].replace('""', '"')
        return self.text.lower()


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon, and its tokens without space and comments."""

    text: str
    tokens: tuple[Token, ...]

    def begins(self, *words: str) -> bool:
        """Tell whether the first tokens are these words, which are in upper case."""
        return len(self.tokens) >= len(words) and all(
            token.is_word(word) for token, word in zip(self.tokens, words, strict=False)
        )

    def name_after(self, *words: str) -> tuple[int, str] | None:
        """Return the place and the value of the name behind the first such row of words."""
        for start in range(len(self.tokens) - len(words)):
            behind = start + len(words)
            row = self.tokens[start:behind]
            if all(token.is_word(word) for token, word in zip(row, words, strict=True)):
                return behind, self.tokens[behind].name
        return None

    def renamed(self, place: int, name: str) -> str:
        """Return the statement with the token at ``place`` replaced by the quoted ``name``."""
        token = self.tokens[place]
        start = token.at - self.tokens[0].at
        return self.text[:start] + quoted(name) + self.text[start + len(token.text) :]


def all_tokens(script: str) -> Iterator[Token]:
    """Yield every token of ``script``; space and comments are tokens too."""
    for found in _TOKEN.finditer(script):
        kind = "string" if found.lastgroup == "tag" else found.lastgroup or "other"
        yield Token(kind, found[0], found.start())


def statements(script: str) -> Iterator[Statement]:
    """Yield the statements of ``script``; comments and psql's own commands are left out."""
    tokens: list[Token] = []
    for token in all_tokens(script):
        if token.kind == "end" and tokens:
            yield Statement(script[tokens[0].at : token.at].rstrip(), tuple(tokens))
            tokens = []
        elif token.kind not in ("space", "meta", "end"):
            tokens.append(token)
    if tokens:
        yield Statement(script[tokens[0].at :].rstrip(), tuple(tokens))

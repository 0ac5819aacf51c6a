"""Names with their schema in SQL as pg_dump writes it, which always names the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.postgres.names import quoted
from backup.postgres.statements import Token, all_tokens

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backup.postgres.names import Name


_NAMES = ("name", "word")
_FUNCTION = "("  # behind the name of one; of a table only behind REFERENCES
_AS_RELATION = "::regclass"


def identifiers(statement: str) -> Iterator[str]:
    """Yield all names and words, literals and comments aside."""
    for token in all_tokens(statement):
        if token.kind in _NAMES:
            yield token.name


def qualified_names(statement: str) -> Iterator[Name]:
    """Yield schema and name of each name that has one, literals and comments aside."""
    tokens = list(all_tokens(statement))
    for place in _places(tokens):
        yield tokens[place].name, tokens[place + 2].name


def inherited(statement: str) -> tuple[Name, ...]:
    """Return the tables that the table of a CREATE TABLE inherits from."""
    tokens = [token for token in all_tokens(statement) if token.kind != "space"]
    for place in range(1, len(tokens) - 1):
        before, word, behind = tokens[place - 1 : place + 2]
        if word.is_word("INHERITS") and behind.text == _FUNCTION and before.text == ")":
            return tuple(qualified_names(statement[behind.at :].partition(";")[0]))
    return ()


def names_between(statement: str, after: str, until: Collection[str] = ()) -> tuple[str, ...]:
    """Return the names from the first word ``after`` to a word of ``until``, or to the end.

    The words are in upper case.
    """
    between: list[str] = []
    is_behind = False
    for token in all_tokens(statement):
        if token.kind not in _NAMES:
            continue
        if not is_behind:
            is_behind = token.is_word(after)
        elif token.is_word(*until):
            break
        else:
            between.append(token.name)
    return tuple(between)


def moved(statement: str, names: Collection[Name], schema: str, *, literals: bool) -> str:
    """Return the statement with each of ``names`` in another schema.

    A function of the same name stays where it is. A literal is a name only before ``::regclass``,
    or wherever it stands if ``literals``.
    """
    tokens = list(all_tokens(statement))
    texts = [token.text for token in tokens]
    for place in _places(tokens):
        named = (tokens[place].name, tokens[place + 2].name)
        if named in names and not _is_function(tokens, place):
            texts[place] = quoted(schema)
    for place, token in enumerate(tokens):
        end = token.at + len(token.text)
        if token.kind == "string" and (literals or statement.startswith(_AS_RELATION, end)):
            texts[place] = _moved_literal(token.text, names, schema)
    return "".join(texts)


def _places(tokens: list[Token]) -> Iterator[int]:
    """Yield the places of the first parts of names with a schema, which are not behind a point."""
    place = 0
    while place < len(tokens) - 2:
        first, point, second = tokens[place : place + 3]
        if point.text == "." and first.kind in _NAMES and second.kind in _NAMES:
            yield place
            place += 3
            while place < len(tokens) and tokens[place].text == ".":
                place += 2  # a column
        else:
            place += 1


def _is_function(tokens: list[Token], place: int) -> bool:
    behind = tokens[place + 3].text if place + 3 < len(tokens) else ""
    before = [token for token in tokens[:place] if token.kind != "space"][-1:]
    return behind == _FUNCTION and not any(token.is_word("REFERENCES") for token in before)


def _moved_literal(literal: str, names: Collection[Name], schema: str) -> str:
    inside = literal[1:-1].replace("''", "'")
    tokens = list(all_tokens(inside))
    is_name = len(tokens) == 3 and [*_places(tokens)] == [0]  # noqa: PLR2004 - with the point
    if not is_name or (tokens[0].name, tokens[2].name) not in names:
        return literal
    name = f"{quoted(schema)}.{tokens[2].text}"
    return "'" + name.replace("'", "''") + "'"

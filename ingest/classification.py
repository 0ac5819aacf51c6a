"""What of a table may leave its source: said by names in the file, kept by the columns themselves.

A name is what a migration changes: after ``RENAME ssn TO ssn_old; ADD COLUMN ssn`` a file that
leaves ``ssn`` out would let the numbers of all go. So a column stays what the last load held it for
until the file says something else of the name it was held for. Decided without any database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingest.drift import Shape
    from ingest.rules import Columns
    from ingest.shapes import Column

# hashed; left out by its name; left out because it is not among the only ones
How = Literal["hash", "exclude", "only"]


@dataclass(frozen=True)
class Withheld:
    """A column that does not leave its source as it is.

    ``number`` is its attnum, 0 in what an older release wrote; ``name`` the one in the file that
    says ``how``, or for ``only`` the column's own when it was not listed.
    """

    number: int
    name: str
    how: How

    def describe(self, column: str) -> str:
        """Return why ``column`` is withheld, whose name the file does not have for that."""
        what = "hashed" if self.how == "hash" else "left out"
        return f"column {column} is {what}, as it was as {self.name}"


def classify(rule: Columns, columns: Iterable[Column], before: Shape | None) -> dict[str, Withheld]:
    """Return which of ``columns`` are withheld, by name, and by what.

    ``before`` is the shape of the same source table at its last load, whatever its name was.
    """
    numbers = {each.number: each for each in before.withheld} if before else {}
    published = {column.name for column in before.columns} if before else set()
    found: dict[str, Withheld] = {}
    for column in columns:
        named = _named(rule, column)
        was = numbers.get(column.number)
        if was is not None and (named is None or (named.how, was.how) == ("hash", "exclude")):
            taken = column.name in published  # a name that may leave, of another column
            if _still(rule, was) and (was.how != "only" or taken):
                named = was
        if named is not None:
            found[column.name] = named
    return found


def _named(rule: Columns, column: Column) -> Withheld | None:
    if column.name in rule.exclude:
        return Withheld(column.number, column.name, "exclude")
    if column.name in rule.hash:
        return Withheld(column.number, column.name, "hash")
    if rule.only is not None and column.name not in rule.only:
        return Withheld(column.number, column.name, "only")
    return None


def _still(rule: Columns, was: Withheld) -> bool:
    match was.how:
        case "exclude":
            return was.name in rule.exclude
        case "hash":
            return was.name in rule.hash
        case "only":
            return rule.leaves_out(was.name)

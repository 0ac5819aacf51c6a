"""What an import does with each asset of the files. Pure: digests go in, a decision comes out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Act(Enum):
    """What is done with an asset."""

    CREATE = "created"
    UPDATE = "updated"
    ADOPT = "as in the files"  # they say the same, which is remembered
    LEAVE = "unchanged"
    CONFLICT = "changed by hand, left"


@dataclass(frozen=True)
class Last:
    """The last import of an asset: the digest of its file, and of what Superset had afterwards."""

    file: str
    there: str


def decide(*, file: str, there: str | None, last: Last | None, overwrite: bool = False) -> Act:
    """Decide by digests: of the file, of what Superset has (None: nothing), and of the last time.

    What a person changed in Superset is overwritten only if that is asked for by name.
    """
    if there is None:
        return Act.CREATE
    if file == there:
        return Act.LEAVE if last == Last(file, there) else Act.ADOPT
    if overwrite:
        return Act.UPDATE
    if last is None:
        return Act.CONFLICT  # somebody made it here, or brought it in by Superset's own import
    if last.file == file:
        return Act.LEAVE  # the file is as it was: a change by hand stays
    return Act.UPDATE if last.there == there else Act.CONFLICT

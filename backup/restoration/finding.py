"""One thing that a look found, and the error of all that blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

State = Literal["good", "note", "blocks"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: ``hint`` says how to go on where it ``blocks``."""

    about: str
    state: State
    said: str
    hint: str = ""


def refuse(findings: Iterable[Finding], what: str) -> None:
    """Raise one Failure of all that blocks, if something does."""
    blocking = [finding for finding in findings if finding.state == "blocks"]
    if blocking:
        raise Failure(
            f"{what} cannot be restored: " + "; ".join(each.said for each in blocking),
            hint=" ".join(dict.fromkeys(each.hint for each in blocking)),
        )

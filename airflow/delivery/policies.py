"""The gate's rules as data: why each is there, and how to put right what breaks it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery.verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Policy:
    """A rule: ``exempt`` if a file may depart from it, ``more`` is what it measures by."""

    name: str
    why: str
    how: str
    exempt: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    def names(self, key: str, dotted: str) -> bool:
        """Return whether a pattern of the list ``key`` means the name ``dotted``."""
        return any(fnmatchcase(dotted, pattern) for pattern in self.more[key])


@cache
def policies() -> Mapping[str, Policy]:
    """Return all rules by name."""
    table = tomllib.loads((Path(__file__).parent / "policies.toml").read_text())
    return {
        name: Policy(name, said.pop("why"), said.pop("how"), said.pop("exempt", False), said)
        for name, said in table.items()
    }


def finding(
    rule: str, file: object, what: object, *, line: int = 0, trace: str | Iterable[str] = ()
) -> Finding:
    """Return what is wrong by ``rule``, cleaned, with the rule's own way to put it right."""
    return Finding.of(file, what, trace, line=line, rule=rule, how=policies()[rule].how)

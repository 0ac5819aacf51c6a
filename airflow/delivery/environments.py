"""What the gate asks of ``environments.toml``: that what it switches off is there."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from delivery.policies import finding
from frame import switches

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from delivery.verdict import Finding


def of_tree(root: Path, ids: Collection[str], names: Collection[str]) -> Iterator[Finding]:
    """Yield what is wrong with the file of the tree ``root``, if it has one.

    ``ids`` are those of its DAGs, pipelines' among them; ``names`` the environments that there are,
    none if any is taken.
    """
    path = root / switches.FILE
    if not path.is_file():
        return
    content = path.read_bytes()
    try:
        switched = switches.read(content)
    except switches.SwitchesError as error:
        yield finding("environments", switches.FILE, error.what, line=error.line)
        return
    lines = content.decode().splitlines()
    for name, patterns in switched.items():
        if names and name not in names:
            said = f"there is no environment {name!r}{_nearest(name, names)}"
            yield finding("environments", switches.FILE, said, line=_line(lines, f"[{name}]"))
        for pattern in patterns:
            if not any(fnmatchcase(each, pattern) for each in ids):
                said = f"[{name}] off: no DAG has the id {pattern!r}{_nearest(pattern, ids)}"
                yield finding("environments", switches.FILE, said, line=_line(lines, pattern))


def _nearest(name: str, names: Collection[str]) -> str:
    near = get_close_matches(name, names, n=1)
    return f": did you mean {near[0]!r}?" if near else ""


def _line(lines: list[str], text: str) -> int:
    return next((number for number, line in enumerate(lines, 1) if text in line), 0)

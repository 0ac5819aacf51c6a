"""The variables files of nomad/vars, as Python values."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import hcl2
from lark.exceptions import LarkError

from frame.failure import WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DECLARATION = re.compile(r'^variable "([^"]+)"', re.MULTILINE)


def read_variables(path: Path) -> dict[str, Any]:
    """Return the values of a ``.hcl`` variables file by name. Raises WrongUse if it is none."""
    try:
        values = hcl2.loads(path.read_text())
    except (LarkError, UnicodeDecodeError) as error:
        # Its first line: the others show the grammar.
        (said, *_) = str(error).splitlines()
        raise WrongUse(
            f"{path}: expected a variables file in HCL: {said.rstrip(' .:')}",
            'Write each variable on a line of its own, as in nomad/vars: name = "value".',
        ) from None
    return {name: _plain(value) for name, value in values.items() if not name.startswith("__")}


def declared(job_files: Iterable[Path]) -> set[str]:
    """Return the names of all variables that some job file declares."""
    return {name for file in job_files for name in _DECLARATION.findall(file.read_text())}


def refuse_unknown(files: Iterable[Path], known: set[str]) -> None:
    """Raise WrongUse for values that no job would read, with the nearest name that one does."""
    faults = []
    for file in files:
        for name in sorted(read_variables(file).keys() - known):
            nearest = get_close_matches(name, known, 1)
            faults.append(f"{file}: {name}" + (f" (did you mean {nearest[0]}?)" if nearest else ""))
    if faults:
        raise WrongUse(
            "expected variables that a job declares, found others:\n  " + "\n  ".join(faults),
            "Correct or remove each: no job would read it.",
        )


def _plain(value: Any) -> Any:
    """Undo that newer python-hcl2 keeps a string's quotes."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if not name.startswith("__")}
    if isinstance(value, str) and value.startswith('"') and value.endswith('"'):
        return value[1:-1]
    return value

"""The variables files of nomad/vars, as Python values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hcl2

if TYPE_CHECKING:
    from pathlib import Path


def read_variables(path: Path) -> dict[str, Any]:
    """Return the values of a ``.hcl`` variables file by name."""
    with path.open() as file:
        return {
            name: _plain(value)
            for name, value in hcl2.load(file).items()
            if not name.startswith("__")
        }


def _plain(value: Any) -> Any:
    """Undo that newer python-hcl2 keeps a string's quotes."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, str) and value.startswith('"') and value.endswith('"'):
        return value[1:-1]
    return value

"""What `make status` says of one thing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One thing and how it is; ``page`` is where the way out stands if it is not well."""

    name: str
    state: str
    well: bool
    details: dict[str, Any] = field(default_factory=dict)
    page: str = ""

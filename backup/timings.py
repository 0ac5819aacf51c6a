"""How long each step of a restore took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Timings:
    """Seconds of each step. The look and the comparison are no part of a restore."""

    download: float = 0.0  # and check, decrypt, decompress
    data: float = 0.0
    indexes: float = 0.0  # and keys, triggers, all that comes after the rows
    analyse: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.download + self.data + self.indexes + self.analyse

    def __str__(self) -> str:
        return (
            f"download and decrypt {self.download:.1f} s, rows {self.data:.1f} s, "
            f"indexes {self.indexes:.1f} s, ANALYZE {self.analyse:.1f} s"
        )

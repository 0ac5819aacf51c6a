"""How long each step of a restore took, and how much more could be restored in a given time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Timings:
    """Seconds of each step; together all of a restore, until others can connect.

    The comparison is no part of it.
    """

    download: float = 0.0  # and check, decrypt, decompress
    schema: float = 0.0  # tables without rows, types, functions: all that comes before the rows
    data: float = 0.0
    indexes: float = 0.0  # and keys, triggers, all that comes after the rows
    analyse: float = 0.0
    other: float = 0.0  # look, roles, the database, its settings and rights

    @property
    def total(self) -> float:
        """All of it."""
        return self.growing + self.fixed

    @property
    def growing(self) -> float:
        """What takes longer the more rows there are."""
        return self.download + self.data + self.indexes + self.analyse

    @property
    def fixed(self) -> float:
        """What takes as long with twice the rows."""
        return self.schema + self.other

    def size_in(self, seconds: float, size: int) -> int | None:
        """Return the size that is restored in ``seconds`` if these steps are of ``size`` bytes.

        At the same mix of rows and indexes: what grows does so with the size. None if nothing did.
        """
        if self.growing <= 0:
            return None
        return int(size * max(seconds - self.fixed, 0) / self.growing)

    def __str__(self) -> str:
        return (
            f"download and decrypt {self.download:.1f} s, schema {self.schema:.1f} s, "
            f"rows {self.data:.1f} s, indexes {self.indexes:.1f} s, ANALYZE {self.analyse:.1f} s, "
            f"other {self.other:.1f} s"
        )

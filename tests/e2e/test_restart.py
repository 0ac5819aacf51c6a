"""A whole cluster that comes back in any order ends healthy, with one migration.

One round, and the harder of the two kinds; tests/soak/test_restarts.py does many of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.rounds import restart

if TYPE_CHECKING:
    from scripts.access import Access


def test_a_new_database_is_migrated_once_while_every_job_waits(platform: Access, seed: int) -> None:
    restart(platform, seed, new_database=True)

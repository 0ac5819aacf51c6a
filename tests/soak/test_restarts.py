"""Ten restarts of the whole cluster, each in an order of its own; every third on a new database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import platform
from tests.e2e.rounds import restart

if TYPE_CHECKING:
    from scripts.access import Access

__all__ = ["platform"]

ROUNDS = 10


@pytest.mark.soak
@pytest.mark.parametrize("number", range(ROUNDS))
def test_every_restart_ends_healthy(platform: Access, seed: int, number: int) -> None:
    restart(platform, seed + number, new_database=number % 3 == 2)

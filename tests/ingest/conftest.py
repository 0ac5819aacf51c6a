"""The fixtures of these tests."""

from __future__ import annotations

from tests.ingest.world import pair, roles, world

__all__ = ["pair", "roles", "world"]

"""The Superset of the test run, for the tests of this folder."""

from __future__ import annotations

from tests.dashboards.service import superset

__all__ = ["superset"]

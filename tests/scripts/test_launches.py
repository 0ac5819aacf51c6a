"""Launches by hand, of a Nomad that is not there."""

from __future__ import annotations

import pytest

from frame.failure import Failure
from scripts import launches
from scripts.access import Access


def test_a_nomad_that_is_not_there_is_one_error() -> None:
    platform = Access({"NOMAD_ADDR": "http://127.0.0.1:9", "NOMAD_TOKEN": "hush"})
    for launch in (
        lambda: launches.dispatch(platform, "restore-drill-now", {}),
        lambda: launches.force(platform, "dag-sync"),
        lambda: launches.finish(platform, "dag-sync/periodic-1", timeout=1),
    ):
        with pytest.raises(Failure, match="Connection refused") as caught:
            launch()
        assert "NOMAD_ADDR" in caught.value.hint
        assert "hush" not in str(caught.value)

from __future__ import annotations

import pytest

from harmattan import address


def test_a_process_is_known_by_its_nodes_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARMATTAN_NODE", "10.0.0.1")
    assert address.node() == "10.0.0.1"


def test_a_job_that_does_not_say_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARMATTAN_NODE", raising=False)
    with pytest.raises(KeyError, match="HARMATTAN_NODE"):
        address.node()

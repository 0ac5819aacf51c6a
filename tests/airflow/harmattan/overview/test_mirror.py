"""The gate's report over a real mirror, and what is known while it is away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from harmattan.overview import mirror
from harmattan.overview.remembered import Remembered
from tests.airflow.harmattan.overview.examples import REFUSED, report
from tests.airflow.harmattan.overview.mirrors import Mirror

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.programs


def test_the_report_comes_over_the_mirror_and_stays_known_while_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harmattan.overview.remembered.RETRY_SECONDS", 0.0)
    served = Mirror(tmp_path)
    served.write(report().syncs[:2])
    asked: Remembered[mirror.Read] = Remembered(lambda last: mirror.newest(served.url, last), 0.0)
    with served.serving():
        first = asked.get()
        assert first.value
        assert first.value.report.syncs[0].verdict.commit == REFUSED
        assert asked.get().value is first.value, "nothing new is not fetched"
        served.write(report().syncs, report().contents)
        second = asked.get()
        assert second.value
        assert second.value.report.syncs == report().syncs
        assert second.value.report.contents == report().contents
    away = asked.get()
    assert (away.value, away.at) == (second.value, second.at)
    assert isinstance(away.failure, Failure)
    with served.serving():
        assert asked.get().failure is None


def test_a_mirror_that_takes_calls_and_says_nothing_is_left_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    monkeypatch.setattr(mirror, "LISTING_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(Failure, match="took longer than"):
            mirror.newest(f"git://127.0.0.1:{silent.getsockname()[1]}", None)
        assert time.monotonic() - began < 30

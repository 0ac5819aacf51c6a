from __future__ import annotations

import time

import pytest

from backup.deadline import parse_duration, time_limit
from frame.failure import Stopped, WrongUse


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("4h", 14_400)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "4", "h", "-4h", "1h30m", "4 h"])
def test_any_other_duration_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="duration"):
        parse_duration(text)


def test_a_limit_ends_what_takes_longer() -> None:
    with pytest.raises(Stopped, match=r"0\.05 seconds"), time_limit(0.05):
        time.sleep(5)


def test_an_inner_limit_leaves_the_outer_one_running() -> None:
    started = time.monotonic()
    with pytest.raises(Stopped, match=r"0\.3 seconds"), time_limit(0.3):
        with time_limit(60):
            time.sleep(0.1)
        time.sleep(5)
    assert 0.25 < time.monotonic() - started < 2

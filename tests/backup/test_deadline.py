from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from backup.deadline import clean_up, left, parse_duration, time_limit
from backup.waits import waiting_for
from frame.failure import Stopped, WrongUse
from tests.backup.conftest import ROOT


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("4h", 14_400)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "4", "h", "-4h", "1h30m", "4 h"])
def test_any_other_duration_is_refused(text: str) -> None:
    with pytest.raises(WrongUse, match="duration"):
        parse_duration(text)


def test_a_limit_ends_what_takes_longer_and_leaves_a_quarter_to_clean_up() -> None:
    began = time.monotonic()
    with pytest.raises(Stopped, match=r"^time limit of 0\.4 s is over$"), time_limit(0.4):
        assert left() <= 0.3
        time.sleep(5)
    assert 0.3 <= time.monotonic() - began < 4
    assert left() == float("inf")


def test_clean_up_is_stopped_when_all_of_the_limit_is_over() -> None:
    began = time.monotonic()
    over = r"and so is that of clean-up while waiting for PostgreSQL \(rows\)$"
    with pytest.raises(Stopped, match=over), time_limit(0.4):
        try:
            with waiting_for("PostgreSQL", "rows"):
                time.sleep(5)
        finally:
            time.sleep(5)
    assert 0.4 <= time.monotonic() - began < 4


def test_an_act_of_clean_up_is_given_up_so_that_the_others_have_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    acts = []
    with pytest.raises(Stopped, match=r"time limit of 2 s is over$"), time_limit(2):
        try:
            time.sleep(5)
        finally:
            for act in "ab":
                with clean_up(act), waiting_for("B2", "b2_cancel_large_file", 1):
                    time.sleep(5)
                acts.append(act)
    assert acts == ["a", "b"]
    words = [record.getMessage() for record in caplog.records]
    assert "a given up after 0 s while waiting for B2 (b2_cancel_large_file, 1st try)" in words[0]


def test_clean_up_hides_neither_its_own_error_nor_a_stop() -> None:
    with pytest.raises(ZeroDivisionError), clean_up("a"):
        raise ZeroDivisionError
    with pytest.raises(Stopped, match="SIGTERM"), clean_up("a"):
        raise Stopped("stopped by SIGTERM")


def test_the_end_of_work_does_not_ring_during_clean_up() -> None:
    with time_limit(2):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            with clean_up("a"):
                time.sleep(1.55)


def test_work_that_goes_on_behind_clean_up_has_its_end_still() -> None:
    began = time.monotonic()
    with pytest.raises(Stopped, match=r"is over$"), time_limit(0.8):
        with clean_up("a"):
            time.sleep(0.1)
        time.sleep(5)
    assert 0.55 < time.monotonic() - began < 4


HANGS = """
import signal, sys, threading, time
from backup.deadline import time_limit
from backup.waits import waiting_for
from frame.failure import Stopped

def terminate(number, frame):
    raise Stopped("stopped by SIGTERM", 143)

signal.signal(signal.SIGTERM, terminate)
with time_limit(float(sys.argv[1])), waiting_for("the test", "for ever"):
    print("begun", flush=True)
    while True:  # as code does that no alarm reaches
        try:
            time.sleep(60)
        except BaseException:
            pass
"""


def hang(seconds: str) -> subprocess.Popen[str]:
    hanging = subprocess.Popen(
        [sys.executable, "-c", HANGS, seconds], env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert hanging.stdout is not None
    hanging.stdout.readline()
    return hanging


def test_a_process_that_swallows_its_stop_is_ended_a_second_later() -> None:
    began = time.monotonic()
    hanging = hang("2")
    _, told = hanging.communicate(timeout=20)
    assert hanging.returncode == 1
    assert 2.5 < time.monotonic() - began < 15
    assert "time limit of 2 s is over, and clean-up did not end" in told
    assert "while waiting for the test (for ever)" in told


def test_a_signal_leaves_the_time_of_clean_up_and_no_more() -> None:
    hanging = hang("8")  # two seconds of it for clean-up
    time.sleep(0.5)  # it swallows nothing before its loop
    began = time.monotonic()
    hanging.send_signal(signal.SIGTERM)
    _, told = hanging.communicate(timeout=20)
    assert hanging.returncode == 143
    assert 2.5 < time.monotonic() - began < 7.5
    assert "stopped by SIGTERM, and clean-up did not end" in told


def test_the_children_of_a_process_that_is_ended_so_are_ended_too() -> None:
    script = (
        "import subprocess, time\n"
        "from backup.deadline import _end_process\n"
        "child = subprocess.Popen(['sleep', '60'], process_group=0)\n"
        "print(child.pid, flush=True)\n"
        "_end_process('over', 1)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    assert ended.returncode == 1
    until = time.monotonic() + 5
    while os.path.exists(f"/proc/{int(ended.stdout)}/exe") and time.monotonic() < until:
        time.sleep(0.02)
    assert time.monotonic() < until

"""Directories for plaintext: removed by whoever made them, or by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backup.scratch import directory as module
from backup.scratch.directory import private_directory, sweep
from frame.failure import WrongUse
from tests.backup.conftest import ROOT

HOLD = """
import sys, time
from pathlib import Path
from backup.scratch.directory import private_directory
with private_directory(Path(sys.argv[1]), "restore") as made:
    (made / "dump").write_text("plain")
    print(made, flush=True)
    time.sleep(600)
"""


def test_it_is_private_and_gone_afterwards(tmp_path: Path) -> None:
    with private_directory(tmp_path, "restore") as made:
        assert made.stat().st_mode & 0o777 == 0o700
        (made / "dump").write_text("plain")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.programs
def test_what_a_killed_process_left_goes_with_the_next_and_what_lives_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEFT_SECONDS", -1)
    strangers = tmp_path / ".harmattan-mine-12345678"
    strangers.write_text("no directory")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        held = holder.stdout.readline().strip()
        with private_directory(tmp_path, "gpg"):
            assert os.path.exists(f"{held}/dump"), "its process lives"
    finally:
        holder.kill()
        holder.communicate()
    assert os.path.exists(f"{held}/dump"), "killed, it cannot remove anything"
    with private_directory(tmp_path, "gpg"):
        assert not os.path.exists(held)
    assert list(tmp_path.iterdir()) == [strangers]


@pytest.fixture
def left_by_a_kill(tmp_path: Path) -> Path:
    """A scratch directory in which a process was killed just now."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert os.path.exists(holder.stdout.readline().strip())
        holder.kill()
    assert list(tmp_path.iterdir())
    return tmp_path


@pytest.mark.programs
def test_a_sweep_waits_for_what_is_too_young_to_tell(left_by_a_kill: Path) -> None:
    sweep(left_by_a_kill)
    assert list(left_by_a_kill.iterdir()) == []
    sweep(left_by_a_kill)


def test_a_path_too_long_for_sockets_is_told(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    with private_directory(long, "restore"):
        pass
    with (
        pytest.raises(WrongUse, match="too long a path for unix sockets"),
        private_directory(long, "gpg", sockets=True),
    ):
        pass


def test_a_place_that_takes_no_directory_is_told() -> None:
    for place in ("/proc", "/proc/none", "/proc/version"):
        with (
            pytest.raises(WrongUse, match=f"no directory can be made in {place}: "),
            private_directory(Path(place), "restore"),
        ):
            pass

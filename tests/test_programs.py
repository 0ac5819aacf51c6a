from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts.repository import ROOT
from tests.programs import WHILE_COLLECTING, hold

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = pytest.fail.Exception


@pytest.mark.parametrize("program", ["find", "/usr/bin/find", "nomad"])
def test_a_test_without_the_marker_that_starts_another_program_fails(program: str) -> None:
    with pytest.raises(REFUSED, match=f"without the marker `programs` starts {program}"):
        subprocess.run([program], check=True)


def test_a_child_of_such_a_test_cannot_build_the_toolchain() -> None:
    program = "import subprocess as s, sys; sys.exit(s.run(['go', 'version']).returncode)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, b"without the marker" in done.stderr) == (1, True)


@pytest.mark.programs
def test_a_test_with_the_marker_starts_what_it_needs() -> None:
    assert subprocess.run(["find", "--version"], check=False).returncode == 0


def test_what_is_always_there_and_what_a_test_wrote_may_be_started(tmp_path: Path) -> None:
    own = tmp_path / "nomad"
    own.write_text("#!/bin/sh\nexit 7\n")
    own.chmod(0o755)
    assert subprocess.run([own], check=False).returncode == 7
    assert subprocess.run(["sh", "-c", "exit 8"], check=False).returncode == 8


def test_a_program_that_is_not_there_is_the_error_that_it_is() -> None:
    with pytest.raises(FileNotFoundError):
        subprocess.run(["no-such-program"], check=False)


def test_collecting_may_start_nothing() -> None:
    with (
        hold("collecting", WHILE_COLLECTING),
        pytest.raises(REFUSED, match="collecting starts"),
    ):
        subprocess.run([sys.executable, "-c", ""], check=True)


def test_a_module_that_starts_a_program_when_it_is_imported_is_not_collected(
    tmp_path: Path,
) -> None:
    module = tmp_path / "test_at_import.py"
    module.write_text("import subprocess\nsubprocess.run(['git', '--version'])\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-p", "tests.programs", module],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    assert "collecting starts git, which tests/programs.py does not allow" in done.stdout

"""Every script that is a command: it can be run, and it tells what it does."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from scripts.repository import ROOT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

SCRIPTS = sorted(
    [*ROOT.glob("scripts/*.py"), *ROOT.glob("scripts/local/*.py"), *ROOT.glob("scripts/*.sh")]
)
COMMANDS = [path for path in SCRIPTS if path.suffix == ".py" and "__main__" in path.read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_command_is_executable_with_a_shebang_and_a_module_is_neither(script: Path) -> None:
    is_command = script in COMMANDS or script.suffix == ".sh"
    shebang = script.read_text().startswith("#!")
    assert (os.access(script, os.X_OK), shebang) == (is_command, is_command)


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.name)
def test_help_teaches_and_does_nothing(
    script: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    # Looked at before it is run: a script without a parser would ignore the word and start.
    assert "Application(" in script.read_text(), f"{script.name} takes no --help"
    done = command(str(script.relative_to(ROOT)), "--help")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Usage:" in done.stdout
    assert re.search(r"[a-z]{3,} [a-z]", done.stdout.split("Usage:")[1]), "it says what it does"
    shown = " ".join(done.stdout.split())
    assert re.search(r"Exit codes: 0 .* 1 .* 2 wrong use", shown)
    assert "--version" in shown


@pytest.mark.parametrize("script", COMMANDS, ids=lambda path: path.name)
def test_an_unknown_option_is_wrong_use(
    script: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert "Application(" in script.read_text(), f"{script.name} has no parser of its options"
    module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
    done = command("python", "-m", module, "--no-such-option")
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr
    assert "Traceback" not in done.stderr

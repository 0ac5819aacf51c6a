"""A ``.local`` of each test's own: this machine's platform is neither read nor touched."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from scripts import access, repository, shell
from scripts.local import home as place
from scripts.local import preflight, processes
from scripts.repository import ROOT
from tests import forked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that stands for ``.local``; it is not there yet."""
    folder = tmp_path / "home"
    monkeypatch.setattr(preflight, "IMAGE_VARIABLES", folder / "images.hcl")
    for module in (place, repository):
        monkeypatch.setattr(module, "SECRETS", folder / "secrets")
    monkeypatch.setattr(access, "KEPT", folder / "access.json")
    for module in (processes, shell):
        monkeypatch.setattr(module, "LOGS", folder / "logs")
    monkeypatch.setattr(processes, "PID_FILES", folder / "run")
    for name in ("NOMAD_ADDR", "NOMAD_TOKEN", "VAULT_ADDR", "VAULT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run an operators' command with nothing of a platform in its environment."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "COLUMNS": "200", **environment}
        if words[:2] == ("python", "-m"):
            return forked.run(*words[2:], env=given, cwd=ROOT, timeout=60)
        return subprocess.run(
            words, cwd=ROOT, env=given, capture_output=True, text=True, timeout=60, check=False
        )

    return run

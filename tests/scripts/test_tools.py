from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scripts import tools

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Nomad v1.11.2", False),
        ("Nomad v1.11.3\nBuildDate 2026-03-11\n", True),
        ("Nomad v1.12.0-beta.1", True),
        ("Nomad v2.0.5", True),
        ("Nomad v10.0.0", True),
        ("Vault v1.21.0 (abc), built 2026-01-01", True),
        ("Nomad v1.10.5", False),
        ("Nomad v1.9.11", False),
        ("Nomad v0.12.0", False),
        ("Nomad v1.2.0", False),
        ("Nomad", False),
        ("", False),
        ("Vault 1.21.0", False),
    ],
)
def test_a_version_is_compared_by_its_numbers(line: str, expected: object) -> None:
    assert tools.new_enough(line, (1, 11, 3)) is expected


def program(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "nomad"
    path.write_text(f"#!/bin/sh\necho 'Nomad v{version}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folder of what was built here, and the only one on PATH."""
    built, installed = tmp_path / "tools", tmp_path / "bin"
    monkeypatch.setattr(tools, "TOOLS", built)
    monkeypatch.setenv("PATH", f"{installed}:/usr/bin:/bin")
    return built, installed


def test_a_tool_that_is_nowhere_is_not_found(places: tuple[Path, Path]) -> None:
    assert tools.find(tools.NOMAD) is None


def test_a_tool_on_path_is_used_when_it_is_new_enough(places: tuple[Path, Path]) -> None:
    path = program(places[1], "1.11.3")
    assert tools.find(tools.NOMAD) == path


def test_an_old_tool_on_path_gives_way_to_the_one_that_was_built(
    places: tuple[Path, Path],
) -> None:
    program(places[1], "1.10.5")
    assert tools.find(tools.NOMAD) is None
    assert tools.find(tools.NOMAD) != program(places[0], "1.11.3").with_name("other")
    assert tools.find(tools.NOMAD) == places[0] / "nomad"


def test_ensure_builds_nothing_that_is_there(places: tuple[Path, Path]) -> None:
    path = program(places[1], "1.11.3")
    assert tools.ensure(tools.NOMAD) == path
    assert not places[0].exists()

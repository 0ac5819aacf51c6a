from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from frame.failure import WrongUse
from scripts.containers import Container, load_containers
from scripts.repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_each_container_of_the_list_is_built_here() -> None:
    for each in load_containers():
        assert (ROOT / "containers" / each.name / "Dockerfile").is_file()


def test_a_container_is_given_what_the_list_says(tmp_path: Path) -> None:
    file = tmp_path / "containers.toml"
    file.write_text(
        '[[container]]\nname = "plain"\n'
        '[[container]]\nname = "full"\nargs = ["${NOMAD_META_what}"]\nmeta = ["what"]\n'
        "memory = 64\n"
    )
    assert load_containers(file) == (
        Container(name="plain"),
        Container(name="full", args=("${NOMAD_META_what}",), meta=("what",), memory=64),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[container]]\nname = "A"', "container.0.name: String should match"),
        ('[[container]]\nname = "a"\n[[container]]\nname = "a"', "'a' is there twice"),
        ('[[container]]\nname = "a"\nmeta = ["B"]', "container.0.meta.0: String should match"),
        ('[[container]]\nname = "a"\nimage = "b"', "container.0.image: Extra inputs"),
    ],
)
def test_what_is_wrong_in_the_list_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "containers.toml"
    file.write_text(text)
    with pytest.raises(WrongUse) as caught:
        load_containers(file)
    assert said in caught.value.message
    assert "nomad/containers.toml in the repository" in (caught.value.hint or "")

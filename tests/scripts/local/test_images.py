from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scripts.local import images
from scripts.local.images import IMAGES, Image, content_hash
from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGE = Image("one", "one/Dockerfile", ("requirements.txt", "one/source"))
FILES = {
    "one/Dockerfile": "FROM scratch\n",
    "requirements.txt": "a==1\n",
    "one/source/a.py": "a = 1\n",
    "one/source/deep/b.py": "b = 1\n",
    "elsewhere.py": "c = 1\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


CHANGES: dict[str, Callable[[Path], object]] = {
    "a source file": lambda root: (root / "one/source/a.py").write_text("a = 2\n"),
    "a file deep down": lambda root: (root / "one/source/deep/b.py").write_text("b = 2\n"),
    "the Dockerfile": lambda root: (root / "one/Dockerfile").write_text("FROM other\n"),
    "the lock": lambda root: (root / "requirements.txt").write_text("a==2\n"),
    "a file more": lambda root: (root / "one/source/c.py").write_text(""),
    "a file less": lambda root: (root / "one/source/a.py").unlink(),
    "a name": lambda root: (root / "one/source/a.py").rename(root / "one/source/z.py"),
    "a mode": lambda root: (root / "one/source/a.py").chmod(0o755),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "a time": lambda root: os.utime(root / "one/source/a.py", (1, 1)),
    "a cache": lambda root: (
        (root / "one/source/__pycache__").mkdir(),
        (root / "one/source/__pycache__/a.cpython-311.pyc").write_bytes(b"x"),
    ),
    "a file of something else": lambda root: (root / "elsewhere.py").write_text("c = 2\n"),
    "an empty folder": lambda root: (root / "one/source/empty").mkdir(),
    "who else may read": lambda root: (root / "one/source/a.py").chmod(0o600),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_the_tag_changes_with(root: Path, change: Callable[[Path], object]) -> None:
    before = content_hash(IMAGE, "base", root)
    change(root)
    assert content_hash(IMAGE, "base", root) != before


@pytest.mark.parametrize("change", NO_CHANGES.values(), ids=NO_CHANGES.keys())
def test_the_tag_stays_the_same_with(root: Path, change: Callable[[Path], object]) -> None:
    before = content_hash(IMAGE, "base", root)
    change(root)
    assert content_hash(IMAGE, "base", root) == before


def test_the_tag_changes_with_the_base(root: Path) -> None:
    assert content_hash(IMAGE, "debian:12", root) != content_hash(IMAGE, "debian:13", root)


def test_the_tag_changes_with_what_the_environment_chooses(root: Path) -> None:
    choosing = dataclasses.replace(IMAGE, choices=("PG_MAJORS", "EXTENSIONS"))
    environments: list[dict[str, str]] = [
        {},
        {"PG_MAJORS": "15 17"},
        {"EXTENSIONS": "15 17"},
        {"PG_MAJORS": "15", "EXTENSIONS": "17"},
    ]
    tags = [content_hash(choosing, "base", root, each) for each in environments]
    assert len(set(tags)) == len(tags)
    others = {"PG_MAJORS": "", "BASE_IMAGE": "else"}
    assert content_hash(choosing, "base", root, others) == tags[0]
    assert content_hash(IMAGE, "base", root, environments[1]) == tags[0]


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_what_can_be_chosen_is_an_argument_of_the_dockerfile(image: Image) -> None:
    arguments = re.findall(r"^ARG (\w+)", (ROOT / image.dockerfile).read_text(), re.MULTILINE)
    assert {*image.choices} <= {*arguments}


def test_the_tag_is_the_same_wherever_the_repository_stands(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name, text in FILES.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
    assert content_hash(IMAGE, "base", other) == content_hash(IMAGE, "base", root)


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_every_path_that_a_dockerfile_copies_is_in_the_tag(image: Image) -> None:
    copied = set()
    for line in (ROOT / image.dockerfile).read_text().splitlines():
        words = [word for word in line.split() if not word.startswith("--chmod")]
        if words[:1] == ["COPY"] and not any(word.startswith("--from") for word in words):
            copied |= set(words[1:-1])
    for path in copied:
        assert any(Path(path).is_relative_to(source) for source in image.sources), path
    for source in image.sources:
        assert (ROOT / source).exists(), source
        assert any(Path(path).is_relative_to(source) for path in copied), f"{source} is not copied"


SOURCES_LIST = """\
# deb http://commented.test/debian bookworm main
deb http://mirror.test/debian bookworm main contrib
deb-src http://mirror.test/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/x.gpg] https://mirror.test/security bookworm-security main
"""


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    """A folder that stands for /etc/apt."""
    (tmp_path / "sources.list.d").mkdir()
    return tmp_path


def test_sources_of_one_line_become_stanzas(apt: Path) -> None:
    (apt / "sources.list").write_text(SOURCES_LIST)
    stanzas = images.apt_sources(apt).strip().split("\n\n")
    keyring = "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"
    assert [stanza.splitlines() for stanza in stanzas] == [
        ["Types: deb", "URIs: http://mirror.test/debian", "Suites: bookworm",
         "Components: main contrib", keyring],
        ["Types: deb", "URIs: https://mirror.test/security", "Suites: bookworm-security",
         "Components: main", keyring],
    ]  # fmt: skip


def test_sources_of_the_newer_form_are_taken_as_they_are(apt: Path) -> None:
    (apt / "sources.list").write_text(SOURCES_LIST)
    text = "Types: deb\nURIs: http://other.test/debian\nSuites: bookworm\nComponents: main\n"
    (apt / "sources.list.d/debian.sources").write_text(text)
    assert images.apt_sources(apt) == text


def test_other_vendors_sources_are_left_out(apt: Path) -> None:
    (apt / "sources.list").write_text(SOURCES_LIST)
    (apt / "sources.list.d/docker.list").write_text("deb https://docker.test bookworm stable\n")
    assert "docker.test" not in images.apt_sources(apt)


def test_a_given_base_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BASE_IMAGE", "debian:bookworm-slim")
    assert images.ensure_base() == "debian:bookworm-slim"

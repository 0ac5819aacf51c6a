from __future__ import annotations

import json
import stat
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from scripts import repository
from scripts.local import home as place

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "secrets/one"
    repository.write_private(path, "text")
    assert path.read_text() == "text"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700


def test_a_file_that_others_could_read_is_theirs_no_more(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("old")
    path.chmod(0o644)
    repository.write_private(path, "new")
    assert (path.read_text(), mode(path)) == ("new", 0o600)


def test_a_reader_sees_the_old_or_the_new_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "one"
    texts = {letter * 300_000 for letter in "ab"}
    repository.write_private(path, min(texts))
    seen, stop = set(), Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = Thread(target=read)
    reader.start()
    for _ in range(50):
        for text in texts:
            repository.write_private(path, text)
    stop.set()
    reader.join(10)
    assert seen <= texts


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "one"
    repository.write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        repository.write_private(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_made_once(home: Path) -> None:
    made = []

    def make() -> dict[str, str]:
        made.append(1)
        return {"key": "value", "text": "ɛŋ\n"}

    assert place.kept("one", make) == place.kept("one", make) == {"key": "value", "text": "ɛŋ\n"}
    assert len(made) == 1
    path = home / "secrets/one.json"
    assert mode(path) == 0o600
    assert mode(path.parent) == 0o700
    assert json.loads(path.read_text())["key"] == "value"


def test_a_random_word_is_long_and_another_each_time(home: Path) -> None:
    words = {place.kept(name) for name in ("one", "two", "three")}
    assert len(words) == 3
    assert all(len(word) >= 32 for word in words)


def test_a_maker_that_fails_leaves_nothing(home: Path) -> None:
    def fail() -> str:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        place.kept("one", fail)
    assert place.kept("one", lambda: "made") == "made"


def test_ports_are_named_once() -> None:
    ports = [port for ports in place.PORTS.values() for port in ports]
    assert len(ports) == len(set(ports))

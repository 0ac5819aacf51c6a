"""What is left by strangers is removed, however it is left; the border itself is in supervisor."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from backup.scratch.confinement import check_border, wipe
from frame.failure import WrongUse

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tree_goes_that_is_deeper_than_a_path_can_be_long(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=folder)
        below = os.open("deeper", os.O_RDONLY, dir_fd=folder)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=below))
        os.close(folder)
        folder = below
    os.close(folder)
    wipe(tmp_path)
    assert os.listdir(tmp_path) == []


def test_no_mode_and_no_kind_of_file_stays_and_no_link_is_followed(tmp_path: Path) -> None:
    outside, top = tmp_path / "outside", tmp_path / "top"
    outside.mkdir()
    (outside / "kept").write_text("")
    closed = top / "closed" / "more"
    closed.mkdir(parents=True)
    (closed / "file").write_text("")
    for path in (closed / "file", closed, closed.parent):
        path.chmod(0)
    (top / "link").symlink_to(outside)
    (top / "nowhere").symlink_to(tmp_path / "none")
    os.mkfifo(top / "pipe")
    (top / ".hidden").write_text("")
    (top / os.fsdecode(b"\xff\n")).write_text("")
    (top / "control").write_text("")
    wipe(top, keep="control")
    assert os.listdir(top) == ["control"]
    assert os.listdir(outside) == ["kept"]
    wipe(top)
    assert os.listdir(top) == []


def test_what_is_another_users_stays(tmp_path: Path) -> None:
    for name in ("file", "folder/below"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        shutil.chown(path, "nobody")
    shutil.chown(tmp_path / "folder", "nobody")
    (tmp_path / "mine").write_text("")
    wipe(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert os.listdir(tmp_path / "folder") == ["below"]


def test_the_border_is_looked_at_from_inside() -> None:
    with pytest.raises(WrongUse, match=r"runs as root|not the first process"):
        check_border()

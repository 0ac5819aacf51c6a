from __future__ import annotations

import os
from typing import TYPE_CHECKING

from harmattan.groom import DAY, groom

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NOW = 1_700_000_000.0


def written(path: Path, age: float, text: str = "log\n") -> Path:
    """Make a file that was last written ``age`` days ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW, NOW - age * DAY))
    return path


def link(path: Path, target: Path, age: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    os.utime(path, (NOW, NOW - age * DAY), follow_symlinks=False)
    return path


def test_old_files_go_and_young_ones_stay(tmp_path: Path) -> None:
    old = [written(tmp_path / name, 31) for name in ("a.log", "dag_id=x/run_id=y/attempt=1.log")]
    young = [written(tmp_path / name, 29) for name in ("b.log", "dag_id=x/run_id=z/attempt=1.log")]
    assert groom(tmp_path, NOW - 30 * DAY) == 2
    assert not any(path.exists() for path in old)
    assert all(path.exists() for path in young)


def test_it_is_the_time_of_writing_that_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "read-today.log", 31)
    os.utime(path, (NOW, NOW - 31 * DAY))  # read just now, written long ago
    assert groom(tmp_path, NOW - 30 * DAY) == 1


def test_folders_that_were_left_empty_go_an_hour_later(tmp_path: Path) -> None:
    left = tmp_path / "dag_id=x"
    written(left / "run_id=y/attempt=1.log", 31)
    written(tmp_path / "dag_id=w/attempt=1.log", 1)
    groom(tmp_path, NOW - 30 * DAY)
    assert (left / "run_id=y").is_dir()  # as young as one that a task just made
    for folder in (left / "run_id=y", left):
        os.utime(folder, (NOW, NOW))
        groom(tmp_path, NOW - 30 * DAY)
    assert [path.name for path in tmp_path.iterdir()] == ["dag_id=w"]


def test_the_folder_itself_stays(tmp_path: Path) -> None:
    assert groom(tmp_path, NOW) == 0
    written(tmp_path / "a.log", 31)
    assert groom(tmp_path, NOW) == 1
    assert tmp_path.is_dir()


def test_a_link_goes_and_what_it_points_to_stays(tmp_path: Path) -> None:
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    file = written(elsewhere / "kept.log", 99)
    to_file = link(logs / "file.log", file, 31)
    to_folder = link(logs / "folder", elsewhere, 31)
    dangling = link(logs / "dangling", tmp_path / "nothing", 31)
    groom(logs, NOW - 30 * DAY)
    assert file.read_text() == "log\n"
    assert not any(path.is_symlink() for path in (to_file, to_folder, dangling))


def test_a_young_link_stays(tmp_path: Path) -> None:
    """Airflow's own `latest` is one, to today's folder."""
    written(tmp_path / "2026-11-21/dag.log", 0)
    latest = link(tmp_path / "latest", tmp_path / "2026-11-21", 0)
    assert groom(tmp_path, NOW - 30 * DAY) == 0
    assert latest.is_symlink()


def test_a_links_loop_does_not_hang_it(tmp_path: Path) -> None:
    link(tmp_path / "a/up", tmp_path, 1)
    written(tmp_path / "a/old.log", 31)
    assert groom(tmp_path, NOW - 30 * DAY) == 1


def test_a_second_round_finds_nothing(tmp_path: Path) -> None:
    written(tmp_path / "a/b.log", 31)
    assert [groom(tmp_path, NOW - 30 * DAY) for _ in range(2)] == [1, 0]


def test_a_folder_that_becomes_a_link_on_the_way_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task swaps its folder for a link after the look at its files, before they are removed."""
    logs, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    written(logs / "run/attempt=1.log", 31)
    kept = written(elsewhere / "attempt=1.log", 31)
    look = os.lstat

    def look_then_swap(name: str, **more: int) -> os.stat_result:
        state = look(name, **more)
        if (logs / "run").is_dir() and not (logs / "run").is_symlink():
            (logs / "run").rename(tmp_path / "swapped")
            link(logs / "run", elsewhere, 1)
        return state

    monkeypatch.setattr(os, "lstat", look_then_swap)
    groom(logs, NOW - 30 * DAY)
    assert kept.exists()
    assert not (tmp_path / "swapped/attempt=1.log").exists()

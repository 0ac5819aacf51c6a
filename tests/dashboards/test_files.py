from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dashboards.files import MOST_BYTES, MOST_FILES, file_name, read, read_folder
from dashboards.layout import CHARTS, DATASETS, Asset
from frame.failure import Failure, WrongUse
from tests.dashboards.examples import BARS_FILE, CONTENTS, DATASET_FILE, Repository

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_is_read_as_it_was_written(tmp_path: Path) -> None:
    repository = Repository()
    assert read_folder(repository.write(tmp_path)).texts == repository.texts()
    assert read(read_folder(tmp_path)).problems == []


def test_a_link_is_refused_and_not_followed(tmp_path: Path) -> None:
    root = Repository().write(tmp_path / "repository")
    secret = tmp_path / "secret"
    secret.write_text("hush")
    (root / BARS_FILE).unlink()
    (root / BARS_FILE).symlink_to(secret)
    with pytest.raises(Failure, match="is a link") as raised:
        read_folder(root)
    assert "hush" not in str(raised.value)


def test_a_linked_folder_is_refused_or_not_entered(tmp_path: Path) -> None:
    root = Repository().write(tmp_path / "repository")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.yaml").write_text("secret: hush")
    (root / "dashboards/charts/more").symlink_to(tmp_path / "elsewhere")
    assert "hush" not in str(read_folder(root).texts)


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    root = Repository().write(tmp_path)
    (root / BARS_FILE).write_text("#" * (MOST_BYTES + 1))
    with pytest.raises(Failure, match="longer than"):
        read_folder(root)


def test_files_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dashboards").mkdir()
    for number in range(MOST_FILES + 1):
        (tmp_path / f"dashboards/{number}.yaml").write_text("")
    with pytest.raises(Failure, match="more than"):
        read_folder(tmp_path)


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    root = Repository().write(tmp_path)
    (root / BARS_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(Failure, match="is not UTF-8"):
        read_folder(root)


def test_a_folder_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="is no folder"):
        read_folder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Students by year", "charts/Students_by_year.yaml"),
        ("../../etc/passwd", "charts/etc_passwd.yaml"),
        ("Größe / %", "charts/Gr_e.yaml"),
        ("%%%", f"charts/{CONTENTS[BARS_FILE]['uuid']}.yaml"),
    ],
)
def test_a_file_is_named_after_what_people_call_it(name: str, file: str) -> None:
    asset = Asset(CHARTS, {**CONTENTS[BARS_FILE], "slice_name": name})
    assert file_name(asset, "School") == file


def test_a_dataset_stands_below_its_database() -> None:
    asset = Asset(DATASETS, CONTENTS[DATASET_FILE])
    assert file_name(asset, "School") == "datasets/School/enrolment.yaml"

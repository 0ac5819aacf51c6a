"""The file that Nomad renders, whatever is in it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from backup.proof.brief import brief
from backup.proof.coverage import Row
from harmattan.overview.backups import Backups, Kept, newest

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 27, 6, tzinfo=UTC)


def test_what_coverage_leaves_is_what_the_page_reads(tmp_path: Path) -> None:
    rows = [
        Row(name="hr", backup_id="x", size=138_400, age_seconds=3600.0, drilled=NOW),
        Row(name="records", states=("no backup", "never drilled"), detail="a server's own words"),
    ]
    (tmp_path / "backups.json").write_text(brief(rows, NOW))
    assert newest(tmp_path / "backups.json") == Backups(
        NOW.isoformat(),
        (
            Kept("records", ("no backup", "never drilled"), "", None, "", 0),
            Kept("hr", (), "2026-11-27T05:00:00+00:00", 138_400, NOW.isoformat(), 0),
        ),
        0,
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": 1}', "<script>"])
def test_a_file_that_says_nothing_is_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "backups.json").write_text(text)
    assert newest(tmp_path / "backups.json") is None


def test_what_has_another_shape_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "x").write_text('{"rows": [1, {"name": {"a": 1}, "states": 3, "size": "1"}]}')
    found = newest(tmp_path / "x")
    assert found == Backups("", (Kept("{'a': 1}", (), "", None, "", 0),), 0)

"""Lifecycle rules: the decision by itself, and the clock that applies it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from standins.b2_server.buckets import UNLOCKED
from standins.b2_server.clock import DAY_MS
from standins.b2_server.endpoint import running_endpoint
from standins.b2_server.files import FileVersion
from standins.b2_server.lifecycle import checked_rules, due

if TYPE_CHECKING:
    from pathlib import Path

RULE = checked_rules(
    [
        {
            "fileNamePrefix": "",
            "daysFromUploadingToHiding": 7,
            "daysFromHidingToDeleting": 3,
            "daysFromStartingToCancelingUnfinishedLargeFiles": 1,
        }
    ]
)[0]


def version(action: str, age_days: float) -> FileVersion:
    """A version of ``age_days`` at day 100; its id says both."""
    uploaded_ms = int((100 - age_days) * DAY_MS)
    return FileVersion(
        f"{action}-{age_days:g}", "", "x", action, "", "", 0, {}, {}, UNLOCKED, uploaded_ms
    )


@pytest.mark.parametrize(
    ("versions", "hide", "remove"),
    [
        ([("upload", 6.9)], False, ()),
        ([("upload", 7)], True, ()),
        ([("upload", 2.9), ("upload", 50)], False, ()),
        ([("upload", 3), ("upload", 50)], False, ("upload-50",)),
        ([("hide", 3), ("upload", 10)], False, ("upload-10",)),
        ([("hide", 3)], False, ("hide-3",)),
        ([("hide", 2)], False, ()),
        ([("start", 0.9), ("upload", 5)], False, ()),
        ([("start", 1), ("upload", 5)], False, ("start-1",)),
        ([("start", 1), ("upload", 8)], True, ("start-1",)),
        ([("upload", 4), ("start", 5), ("upload", 6)], False, ("start-5", "upload-6")),
        ([("start", 5)], False, ("start-5",)),
    ],
)
def test_what_is_due(
    versions: list[tuple[str, float]], hide: bool, remove: tuple[str, ...]
) -> None:
    found = due(RULE, [version(*each) for each in versions], 100 * DAY_MS)
    assert (found.hide, found.remove) == (hide, remove)


def test_the_clock_hides_then_deletes_then_cancels_below_the_prefix(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket(
            lifecycle_rules=[{**RULE, "fileNamePrefix": "daily/"}]
        )  # fmt: skip
        bucket.upload_bytes(b"x", "daily/1")
        bucket.upload_bytes(b"x", "kept/1")
        for name in ("daily/2", "kept/2"):
            endpoint.api().services.large_file.start_large_file(bucket.id_, name, "b2/x-auto")

        def names() -> list[str]:
            found = [each for each, _ in bucket.ls(recursive=True, latest_only=False)]
            return [f"{each.action} {each.file_name}" for each in found]

        endpoint.advance(days=6)
        assert names() == ["upload daily/1", "upload kept/1", "start kept/2"]
        endpoint.advance(days=1)
        assert names() == ["hide daily/1", "upload daily/1", "upload kept/1", "start kept/2"]
        endpoint.advance(days=2)
        assert len(names()) == 4
        endpoint.advance(days=1)
        assert "upload daily/1" not in names()
        endpoint.advance(days=3)
        assert names() == ["upload kept/1", "start kept/2"]
        held = len(list((tmp_path / "data" / "blobs").iterdir()))
        assert held == 1


def test_a_long_leap_is_many_days(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket(lifecycle_rules=[RULE])
        bucket.upload_bytes(b"x", "x")
        endpoint.advance(days=14)
        assert list(bucket.ls(latest_only=False)) == []

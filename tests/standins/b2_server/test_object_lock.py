"""Object Lock by a bucket's default retention: nobody deletes early, nor do the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from b2sdk.v3 import (  # type: ignore[import-untyped]
    BucketRetentionSetting,
    RetentionMode,
    RetentionPeriod,
)
from b2sdk.v3.exception import AccessDenied, BadRequest  # type: ignore[import-untyped]

from standins.b2_server.endpoint import running_endpoint

if TYPE_CHECKING:
    from pathlib import Path

TEN_DAYS = BucketRetentionSetting(RetentionMode.COMPLIANCE, RetentionPeriod(days=10))
RULE = {"fileNamePrefix": "", "daysFromUploadingToHiding": 1, "daysFromHidingToDeleting": 1}


def test_a_locked_file_is_deleted_only_when_its_time_is_over(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket(is_file_lock_enabled=True)
        before = bucket.upload_bytes(b"x", "before")
        bucket.update(default_retention=TEN_DAYS)
        assert bucket.get_fresh_state().default_retention == TEN_DAYS
        kept, copied = bucket.upload_bytes(b"x", "kept"), bucket.copy(before.id_, "copied")
        before.delete()
        endpoint.advance(days=9)
        for version in (kept, copied):
            assert version.file_retention.mode is RetentionMode.COMPLIANCE
            with pytest.raises(AccessDenied):
                version.delete()
        endpoint.advance(days=2)
        kept.delete()
        copied.delete()
        assert list(bucket.ls(latest_only=False)) == []


def test_rules_delete_what_is_locked_when_that_is_over(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket(is_file_lock_enabled=True, lifecycle_rules=[RULE])
        bucket.update(default_retention=TEN_DAYS)
        bucket.upload_bytes(b"x", "kept")
        endpoint.advance(days=9)
        assert [found.action for found, _ in bucket.ls(latest_only=False)] == ["hide", "upload"]
        endpoint.advance(days=3)
        assert list(bucket.ls(latest_only=False)) == []


def test_an_unfinished_large_file_can_be_cancelled(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket(is_file_lock_enabled=True)
        bucket.update(default_retention=TEN_DAYS)
        api = endpoint.api()
        started = api.services.large_file.start_large_file(bucket.id_, "large", "b2/x-auto")
        api.cancel_large_file(started.file_id)
        assert list(bucket.list_unfinished_large_files()) == []


def test_a_bucket_without_the_lock_takes_no_retention(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint, pytest.raises(BadRequest):
        endpoint.create_bucket().update(default_retention=TEN_DAYS)

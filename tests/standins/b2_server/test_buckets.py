"""Buckets and the checks on their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from b2sdk.v3 import LegalHold  # type: ignore[import-untyped]
from b2sdk.v3.exception import (  # type: ignore[import-untyped]
    BadRequest,
    BucketIdNotFound,
    Conflict,
    DuplicateBucketName,
)

if TYPE_CHECKING:
    from standins.b2_server.endpoint import B2Endpoint


def test_a_bucket_is_created_changed_listed_and_deleted(b2_endpoint: B2Endpoint) -> None:
    api = b2_endpoint.api()
    rules = [{"fileNamePrefix": "a/", "daysFromHidingToDeleting": 3}]
    bucket = api.create_bucket("backups-of-tests", "allPrivate", lifecycle_rules=rules)
    assert bucket.lifecycle_rules[0]["daysFromHidingToDeleting"] == 3
    changed = bucket.update(bucket_info={"owner": "tests"}, if_revision_is=bucket.revision)
    assert (changed.bucket_info, changed.revision) == ({"owner": "tests"}, 2)
    with pytest.raises(Conflict):
        bucket.update(bucket_info={}, if_revision_is=1)
    [seen] = api.list_buckets(bucket_name="backups-of-tests")
    assert seen.lifecycle_rules == changed.lifecycle_rules
    api.delete_bucket(bucket)
    assert "backups-of-tests" not in [each.name for each in api.list_buckets()]
    with pytest.raises(BucketIdNotFound):
        api.session.list_file_names(bucket.id_)


def test_a_name_is_taken_once_and_must_be_a_bucket_name(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    with pytest.raises(DuplicateBucketName):
        b2_endpoint.create_bucket(bucket.name.upper())
    for name in ("short", "with_underscore", "b2-reserved", "x" * 64):
        with pytest.raises(BadRequest):
            b2_endpoint.create_bucket(name)


@pytest.mark.filterwarnings("ignore:bad request exception")
def test_only_an_empty_bucket_can_be_deleted(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    version = bucket.upload_bytes(b"x", "x")
    with pytest.raises(BadRequest) as refused:
        b2_endpoint.api().delete_bucket(bucket)
    assert refused.value.code == "cannot_delete_non_empty_bucket"
    version.delete()
    b2_endpoint.api().delete_bucket(bucket)


@pytest.mark.parametrize(
    "rules",
    [
        [
            {"fileNamePrefix": "a/", "daysFromHidingToDeleting": 1},
            {"fileNamePrefix": "a/b", "daysFromHidingToDeleting": 1},
        ],
        [
            {"fileNamePrefix": "", "daysFromHidingToDeleting": 1},
            {"fileNamePrefix": "b", "daysFromUploadingToHiding": 1},
        ],
        [{"fileNamePrefix": "a"}],
        [{"fileNamePrefix": "a", "daysFromHidingToDeleting": 0}],
        [{"fileNamePrefix": "a", "daysFromHidingToDeleting": True}],
        [{"fileNamePrefix": "a", "days": 1}],
        [{"daysFromHidingToDeleting": 1}],
    ],
)
def test_lifecycle_rules_that_b2_refuses_are_refused(
    b2_endpoint: B2Endpoint, rules: list[dict[str, Any]]
) -> None:
    with pytest.raises(BadRequest):
        b2_endpoint.create_bucket(lifecycle_rules=rules)


def test_what_the_server_does_not_do_is_refused(b2_endpoint: B2Endpoint) -> None:
    with pytest.raises(BadRequest, match="legal-hold"):
        b2_endpoint.create_bucket().upload_bytes(b"x", "x", legal_hold=LegalHold.ON)

"""Large files: parts, their rules, unfinished ones."""

from __future__ import annotations

import hashlib
import io
import random
from typing import TYPE_CHECKING, Any

import pytest
from b2sdk.v3.exception import (  # type: ignore[import-untyped]
    BadRequest,
    InvalidAuthToken,
    MissingPart,
    PartSha1Mismatch,
)

from standins.b2_server.endpoint import running_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from b2sdk.v3 import Bucket  # type: ignore[import-untyped]

    from standins.b2_server.endpoint import B2Endpoint

MINIMUM = 1000


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[B2Endpoint]:
    """A server that takes small parts, so that many rules are tried with few bytes."""
    home: Path = tmp_path_factory.mktemp("b2")
    with running_endpoint(home, "--minimum-part-size", str(MINIMUM)) as endpoint:
        yield endpoint


class Upload:
    """One large file, driven call by call."""

    def __init__(self, endpoint: B2Endpoint, bucket: Bucket, name: str = "large") -> None:
        self.session = endpoint.api().session
        started = self.session.start_large_file(bucket.id_, name, "b2/x-auto", {"a": "b"})
        self.file_id: str = started["fileId"]

    def part(self, number: int, content: bytes, sha1: str | None = None) -> dict[str, Any]:
        digest = sha1 or hashlib.sha1(content).hexdigest()  # noqa: S324 - it is B2's
        sent: dict[str, Any] = self.session.upload_part(
            self.file_id, number, len(content), digest, io.BytesIO(content)
        )
        return sent

    def finish(self, *sha1s: str) -> dict[str, Any]:
        made: dict[str, Any] = self.session.finish_large_file(self.file_id, list(sha1s))
        return made


def test_a_stream_of_unknown_length_comes_back_whole(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    sent = random.Random(1).randbytes(12_345_678)
    version = bucket.upload_unbound_stream(
        io.BytesIO(sent), "dump", min_part_size=5_000_000, recommended_upload_part_size=5_000_000,
        file_info={"sha256": "x"},
    )  # fmt: skip
    assert (version.size, version.content_sha1, version.action) == (len(sent), "none", "upload")
    for seekable in (False, True):
        taken = io.BytesIO()
        bucket.download_file_by_name("dump").save(taken, allow_seeking=seekable)
        assert taken.getvalue() == sent
    across = io.BytesIO()
    bucket.download_file_by_id(version.id_, range_=(4_999_990, 10_000_010)).save(across)
    assert across.getvalue() == sent[4_999_990:10_000_011]
    assert list(bucket.list_unfinished_large_files()) == []


def test_parts_may_come_in_any_order_and_again(small: B2Endpoint) -> None:
    bucket = small.create_bucket()
    upload = Upload(small, bucket)
    last = upload.part(3, b"c")
    first = upload.part(1, b"a" * MINIMUM)
    upload.part(2, b"wrong" * MINIMUM)
    second = upload.part(2, b"b" * MINIMUM)
    parts = upload.session.list_parts(upload.file_id, 1, 2)
    assert [part["partNumber"] for part in parts["parts"]] == [1, 2]
    assert parts["nextPartNumber"] == 3
    upload.finish(*(part["contentSha1"] for part in (first, second, last)))
    taken = io.BytesIO()
    bucket.download_file_by_name("large").save(taken)
    assert taken.getvalue() == b"a" * MINIMUM + b"b" * MINIMUM + b"c"
    assert bucket.get_file_info_by_name("large").file_info == {"a": "b"}


def test_a_part_with_a_wrong_sha1_or_number_is_refused(small: B2Endpoint) -> None:
    upload = Upload(small, small.create_bucket())
    with pytest.raises(BadRequest, match="Sha1 did not match"):
        upload.part(1, b"x", "0" * 40)
    for number in (0, 10_001):
        with pytest.raises(BadRequest, match="Part number must be in range"):
            upload.part(number, b"x")
    assert upload.session.list_parts(upload.file_id, 1, 10)["parts"] == []


def test_finish_checks_the_parts(small: B2Endpoint) -> None:
    bucket = small.create_bucket()
    upload = Upload(small, bucket)
    first = upload.part(1, b"a" * MINIMUM)["contentSha1"]
    with pytest.raises(BadRequest, match="at least 2 parts"):
        upload.finish(first)
    third = upload.part(3, b"c" * MINIMUM)["contentSha1"]
    with pytest.raises(MissingPart):
        upload.finish(first, third)
    second = upload.part(2, b"b" * (MINIMUM - 1))["contentSha1"]
    with pytest.raises(BadRequest, match="partSha1Array"):
        upload.finish(first, second)
    with pytest.raises(PartSha1Mismatch):
        upload.finish(second, first, third)
    with pytest.raises(BadRequest, match=f"Part number 2 is smaller than {MINIMUM} bytes"):
        upload.finish(first, second, third)
    second = upload.part(2, b"b" * MINIMUM)["contentSha1"]
    made = upload.finish(first, second, third)
    assert (made["action"], made["contentLength"]) == ("upload", 3 * MINIMUM)
    with pytest.raises(BadRequest, match="No active upload for"):
        upload.finish(first, second, third)
    with pytest.raises(BadRequest, match="No active upload for"):
        upload.part(4, b"d")


def test_unfinished_files_are_listed_and_cancelled(small: B2Endpoint) -> None:
    bucket = small.create_bucket()
    uploads = [Upload(small, bucket, name) for name in ("a/1", "b/1", "a/2")]
    uploads[0].part(1, b"x" * MINIMUM)
    assert [each.file_name for each in bucket.list_unfinished_large_files()] == [
        "a/1",
        "b/1",
        "a/2",
    ]
    assert [each.file_name for each in bucket.list_unfinished_large_files(prefix="a/")] == [
        "a/1",
        "a/2",
    ]
    session = uploads[0].session
    page = session.list_unfinished_large_files(bucket.id_, None, 2, None)
    rest = session.list_unfinished_large_files(bucket.id_, page["nextFileId"], 2, None)
    assert [each["fileName"] for each in page["files"] + rest["files"]] == ["a/1", "b/1", "a/2"]
    assert [each.action for each, _ in bucket.ls("a/", latest_only=False)] == ["start", "start"]
    assert list(bucket.ls("a/")) == []
    blobs = small.home / "data" / "blobs"
    held = len(list(blobs.iterdir()))
    for upload in uploads:
        bucket.cancel_large_file(upload.file_id)
    assert len(list(blobs.iterdir())) == held - 1
    assert list(bucket.list_unfinished_large_files()) == []
    with pytest.raises(BadRequest, match="No active upload for"):
        bucket.cancel_large_file(uploads[0].file_id)


def test_an_unfinished_file_does_not_hide_the_finished_one(small: B2Endpoint) -> None:
    bucket = small.create_bucket()
    bucket.upload_bytes(b"whole", "large")
    Upload(small, bucket)
    taken = io.BytesIO()
    bucket.download_file_by_name("large").save(taken)
    assert taken.getvalue() == b"whole"
    assert [each.action for each, _ in bucket.ls()] == ["upload"]


def test_a_part_can_be_copied_on_the_server(small: B2Endpoint) -> None:
    bucket = small.create_bucket()
    source = bucket.upload_bytes(bytes(range(200)) * 10, "source")
    upload = Upload(small, bucket)
    first = upload.session.copy_part(source.id_, upload.file_id, 1)
    last = upload.session.copy_part(source.id_, upload.file_id, 2, bytes_range=(10, 12))
    upload.finish(first["contentSha1"], last["contentSha1"])
    taken = io.BytesIO()
    bucket.download_file_by_name("large").save(taken)
    assert taken.getvalue() == bytes(range(200)) * 10 + bytes([10, 11, 12])


def test_a_part_token_is_for_its_own_file(small: B2Endpoint) -> None:
    bucket = small.create_bucket()
    one, other = Upload(small, bucket), Upload(small, bucket)
    target = one.session.get_upload_part_url(one.file_id)
    token = one.session.get_upload_part_url(other.file_id)["authorizationToken"]
    with pytest.raises(InvalidAuthToken):
        one.session.raw_api.upload_part(
            target["uploadUrl"], token, 1, 1, hashlib.sha1(b"x").hexdigest(), io.BytesIO(b"x")  # noqa: S324
        )  # fmt: skip

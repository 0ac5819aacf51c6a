"""Faults: each kind does what it says, as b2sdk sees it."""

from __future__ import annotations

import io
import random
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
import requests
from b2sdk.v3.exception import (  # type: ignore[import-untyped]
    BadRequest,
    ChecksumMismatch,
    MaxRetriesExceeded,
    TooManyRequests,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from b2sdk.v3 import Bucket  # type: ignore[import-untyped]

    from standins.b2_server.endpoint import B2Endpoint

PART = 5_000_000


@pytest.fixture
def bucket(b2_endpoint: B2Endpoint) -> Iterator[Bucket]:
    """A bucket, and no faults left when the test ends."""
    made = b2_endpoint.create_bucket()
    yield made
    left = b2_endpoint.faults_left()
    b2_endpoint.set_faults()
    assert left == []


def upload_large(bucket: Bucket, content: bytes) -> Any:
    return bucket.upload_unbound_stream(
        io.BytesIO(content), "large", min_part_size=PART, recommended_upload_part_size=PART
    )


def taken(bucket: Bucket, name: str) -> bytes:
    into = io.BytesIO()
    bucket.download_file_by_name(name).save(into, allow_seeking=False)
    return into.getvalue()


@pytest.mark.parametrize("kind", ["close", "close_mid_body"])
@pytest.mark.parametrize("after", [0, 1])
def test_a_closed_connection_is_tried_again(
    b2_endpoint: B2Endpoint, bucket: Bucket, kind: str, after: int
) -> None:
    sent = random.Random(2).randbytes(2 * PART + 1)
    b2_endpoint.set_faults({"operation": "upload_part", "kind": kind, "after": after})
    upload_large(bucket, sent)
    assert taken(bucket, "large") == sent


def test_statuses_are_answered_with_retry_after(b2_endpoint: B2Endpoint, bucket: Bucket) -> None:
    b2_endpoint.set_faults(
        {"operation": "upload_file", "kind": "status", "status": 503, "count": 2},
        {"operation": "list_file_names", "kind": "status", "status": 503, "retry_after": 1},
    )
    bucket.upload_bytes(b"x", "x")
    started = time.monotonic()
    assert len(list(bucket.ls())) == 1
    assert time.monotonic() - started >= 1
    b2_endpoint.set_faults({"operation": "upload_file", "kind": "status", "status": 429})
    with pytest.raises(TooManyRequests):
        bucket.upload_bytes(b"x", "x")
    b2_endpoint.set_faults(
        {"operation": "upload_file", "kind": "status", "status": 408, "count": 5}
    )  # fmt: skip
    with pytest.raises(MaxRetriesExceeded):
        bucket.upload_bytes(b"x", "x")


def test_a_lost_answer_of_an_upload_leaves_two_versions(
    b2_endpoint: B2Endpoint, bucket: Bucket
) -> None:
    b2_endpoint.set_faults({"operation": "upload_file", "kind": "lose_answer"})
    bucket.upload_bytes(b"x", "x")
    assert len(list(bucket.ls(latest_only=False))) == 2


def test_a_lost_answer_of_finish_looks_like_a_failure(
    b2_endpoint: B2Endpoint, bucket: Bucket
) -> None:
    b2_endpoint.set_faults({"operation": "finish_large_file", "kind": "lose_answer"})
    sent = b"x" * PART + b"y"
    with pytest.raises(BadRequest, match="No active upload for"):
        upload_large(bucket, sent)
    assert taken(bucket, "large") == sent


def test_a_download_that_breaks_off_has_sent_half(b2_endpoint: B2Endpoint, bucket: Bucket) -> None:
    sent = random.Random(3).randbytes(3_000_000)
    bucket.upload_bytes(sent, "x")
    b2_endpoint.set_faults({"operation": "download", "kind": "close_mid_body"})
    token = b2_endpoint.api().account_info.get_account_auth_token()
    answer = requests.get(
        f"{b2_endpoint.url}/file/{bucket.name}/x",
        headers={"Authorization": token},
        stream=True,
        timeout=10,
    )
    got = b""
    with answer, pytest.raises(requests.exceptions.ChunkedEncodingError):
        for chunk in answer.iter_content(100_000):
            got += chunk
    assert answer.headers["Content-Length"] == str(len(sent))
    assert 0 < len(got) <= len(sent) // 2
    assert sent.startswith(got)


def test_a_flipped_bit_is_seen_in_a_small_file_only(
    b2_endpoint: B2Endpoint, bucket: Bucket
) -> None:
    small = bucket.upload_bytes(b"hello", "small")
    b2_endpoint.set_faults({"kind": "flip_bit", "file_id": small.id_, "offset": 4})
    with pytest.raises(ChecksumMismatch):
        taken(bucket, "small")
    sent = bytes(2 * PART)
    b2_endpoint.set_faults(
        {"operation": "finish_large_file", "kind": "flip_bit", "offset": PART + 1}
    )
    upload_large(bucket, sent)
    got = taken(bucket, "large")
    assert [index for index in range(len(sent)) if got[index]] == [PART + 1]


def test_a_truncated_file_looks_whole(b2_endpoint: B2Endpoint, bucket: Bucket) -> None:
    sent = random.Random(4).randbytes(2 * PART + 10)
    version = upload_large(bucket, sent)
    for length in (2 * PART, PART - 1, 0):
        b2_endpoint.set_faults({"kind": "truncate", "file_id": version.id_, "length": length})
        assert taken(bucket, "large") == sent[:length]
        assert bucket.get_file_info_by_id(version.id_).size == length


def test_an_answer_can_claim_a_wrong_sha1(b2_endpoint: B2Endpoint, bucket: Bucket) -> None:
    b2_endpoint.set_faults({"operation": "upload_file", "kind": "wrong_sha1"})
    with pytest.raises(AssertionError):
        bucket.upload_bytes(b"x", "x")
    b2_endpoint.set_faults({"operation": "download", "kind": "wrong_sha1"})
    with pytest.raises(ChecksumMismatch):
        taken(bucket, "x")
    assert taken(bucket, "x") == b"x"


def test_a_delay_delays(b2_endpoint: B2Endpoint, bucket: Bucket) -> None:
    b2_endpoint.set_faults({"operation": "hide_file", "kind": "delay", "seconds": 0.3})
    bucket.upload_bytes(b"x", "x")
    started = time.monotonic()
    bucket.hide_file("x")
    assert time.monotonic() - started >= 0.3


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "explode"},
        {"kind": "status"},
        {"kind": "close", "colour": "red"},
        {"kind": "flip_bit", "operation": "upload_part", "offset": 1},
        {"kind": "truncate", "file_id": "no such file", "length": 1},
    ],
)
def test_faults_that_could_not_happen_are_refused(
    b2_endpoint: B2Endpoint, fault: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="bad_request"):
        b2_endpoint.set_faults(fault)
    assert b2_endpoint.faults_left() == []


def test_a_call_that_hangs_and_an_answer_that_stops_are_waited_for_in_vain(
    b2_endpoint: B2Endpoint, bucket: Bucket
) -> None:
    sent = random.Random(5).randbytes(3_000_000)
    bucket.upload_bytes(sent, "x")
    b2_endpoint.set_faults(
        {"operation": "download", "kind": "hang"},
        {"operation": "download", "kind": "hang_mid_body"},
    )
    headers = {"Authorization": b2_endpoint.api().account_info.get_account_auth_token()}
    url = f"{b2_endpoint.url}/file/{bucket.name}/x"
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(url, headers=headers, timeout=0.5)
    got = b""
    with (
        requests.get(url, headers=headers, stream=True, timeout=0.5) as answer,
        pytest.raises(requests.exceptions.ConnectionError, match="timed out"),
    ):
        for chunk in answer.iter_content(100_000):
            got += chunk
    assert len(sent) // 2 - 100_000 < len(got) <= len(sent) // 2


def test_an_answer_without_a_body_has_done_the_call(
    b2_endpoint: B2Endpoint, bucket: Bucket
) -> None:
    session = b2_endpoint.api().session
    b2_endpoint.set_faults({"operation": "start_large_file", "kind": "empty_answer"})
    with pytest.raises(ValueError, match="Expecting value"):
        session.start_large_file(bucket.id_, "x", "text/plain", {})
    assert [found.file_name for found in bucket.list_unfinished_large_files()] == ["x"]


def test_a_status_has_the_code_and_the_words_that_are_asked_for(
    b2_endpoint: B2Endpoint, bucket: Bucket
) -> None:
    words = "more than one upload using auth token 4_abc"
    b2_endpoint.set_faults(
        {"operation": "list_buckets", "kind": "status", "status": 400, "code": "bad_request",
         "message": words}
    )  # fmt: skip
    with pytest.raises(BadRequest, match=words):
        b2_endpoint.api().list_buckets()


def test_every_answer_tells_the_time_of_the_server_s_clock(b2_endpoint: B2Endpoint) -> None:
    def ahead() -> float:
        told = requests.get(f"{b2_endpoint.url}/harmattan-test/health", timeout=10).headers["Date"]
        return parsedate_to_datetime(told).timestamp() - time.time()

    b2_endpoint.reset_clock()
    assert abs(ahead()) < 2
    b2_endpoint.advance(seconds=3600)
    assert 3598 < ahead() < 3602
    b2_endpoint.reset_clock()
    assert abs(ahead()) < 2

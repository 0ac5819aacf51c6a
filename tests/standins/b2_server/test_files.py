"""Small files: upload, download, versions, listings."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any

import pytest
import requests
from b2sdk.v3.exception import (  # type: ignore[import-untyped]
    FileAlreadyHidden,
    FileNotPresent,
)

if TYPE_CHECKING:
    from b2sdk.v3 import Bucket  # type: ignore[import-untyped]

    from standins.b2_server.endpoint import B2Endpoint


def content(bucket: Bucket, name: str, **how: Any) -> bytes:
    taken = io.BytesIO()
    bucket.download_file_by_name(name, **how).save(taken)
    return taken.getvalue()


def raw_upload(
    endpoint: B2Endpoint, bucket: Bucket, body: bytes, **headers: str
) -> requests.Response:
    target = endpoint.api().session.get_upload_url(bucket.id_)
    sent = {
        "Authorization": target["authorizationToken"],
        "X-Bz-File-Name": "raw",
        "Content-Type": "b2/x-auto",
        "X-Bz-Content-Sha1": hashlib.sha1(body).hexdigest(),  # noqa: S324 - it is B2's
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return requests.post(target["uploadUrl"], data=body, headers=sent, timeout=10)


def test_a_file_comes_back_with_its_name_info_and_sha1(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    name = "a folder/größe & 100%+.txt"
    version = bucket.upload_bytes(b"hello", name, file_info={"sha256": "a b/ü+%"})
    assert version.file_name == name
    assert version.content_type == "text/plain"
    assert version.content_sha1 == "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"
    assert content(bucket, name) == b"hello"
    found = bucket.download_file_by_id(version.id_).download_version
    assert (found.file_name, found.file_info) == (name, {"sha256": "a b/ü+%"})
    assert bucket.get_file_info_by_name(name).id_ == version.id_
    assert bucket.get_file_info_by_id(version.id_).upload_timestamp == version.upload_timestamp
    with pytest.raises(FileNotPresent):
        bucket.get_file_info_by_name("another")


def test_an_empty_file_is_a_file(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    bucket.upload_bytes(b"", "empty")
    assert content(bucket, "empty") == b""


def test_a_wrong_sha1_stores_nothing(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    answer = raw_upload(b2_endpoint, bucket, b"hello", X_Bz_Content_Sha1="0" * 40)
    assert answer.json() == {
        "status": 400,
        "code": "bad_request",
        "message": "Sha1 did not match data received",
    }
    assert list(bucket.ls()) == []


def test_the_sha1_may_come_at_the_end_of_the_body(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    digest = hashlib.sha1(b"hello").hexdigest().encode()  # noqa: S324
    good = raw_upload(b2_endpoint, bucket, b"hello" + digest, X_Bz_Content_Sha1="hex_digits_at_end")
    assert good.json()["contentLength"] == 5
    assert content(bucket, "raw") == b"hello"
    bad = raw_upload(b2_endpoint, bucket, b"jello" + digest, X_Bz_Content_Sha1="hex_digits_at_end")
    assert bad.status_code == 400
    unchecked = raw_upload(b2_endpoint, bucket, b"hello", X_Bz_Content_Sha1="do_not_verify")
    assert unchecked.json()["contentSha1"] == "unverified:" + digest.decode()


def test_an_upload_without_a_length_or_with_a_bad_name_is_refused(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    target = b2_endpoint.api().session.get_upload_url(bucket.id_)
    headers = {
        "Authorization": target["authorizationToken"],
        "X-Bz-File-Name": "x",
        "Content-Type": "b2/x-auto",
        "X-Bz-Content-Sha1": "do_not_verify",
    }
    chunked = requests.post(target["uploadUrl"], data=iter([b"x"]), headers=headers, timeout=10)
    assert "Content-Length" in chunked.json()["message"]
    for name in ("/x", "x/", "a//b", "x" * 251, "%00"):
        headers["X-Bz-File-Name"] = name
        answer = requests.post(target["uploadUrl"], data=b"x", headers=headers, timeout=10)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


def test_an_upload_token_is_for_its_own_address(b2_endpoint: B2Endpoint) -> None:
    one, other = b2_endpoint.create_bucket(), b2_endpoint.create_bucket()
    account = b2_endpoint.api().account_info.get_account_auth_token()
    target = b2_endpoint.api().session.get_upload_url(other.id_)
    for token in (account, target["authorizationToken"]):
        answer = raw_upload(b2_endpoint, one, b"x", Authorization=token)
        assert answer.json()["code"] == "bad_auth_token"


@pytest.mark.parametrize(
    ("asked", "status", "expected", "where"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
        ("bytes=10-11", 416, None, "bytes */10"),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(
    b2_endpoint: B2Endpoint, asked: str, status: int, expected: bytes | None, where: str | None
) -> None:
    bucket = b2_endpoint.create_bucket()
    version = bucket.upload_bytes(b"0123456789", "digits")
    token = b2_endpoint.api().account_info.get_account_auth_token()
    for address in (
        f"file/{bucket.name}/digits",
        f"b2api/v4/b2_download_file_by_id?fileId={version.id_}",
    ):
        answer = requests.get(
            f"{b2_endpoint.url}/{address}",
            headers={"Authorization": token, "Range": asked},
            timeout=10,
        )
        assert (answer.status_code, answer.headers.get("Content-Range")) == (status, where)
        if expected is None:
            assert answer.json()["code"] == "range_not_satisfiable"
        else:
            assert answer.content == expected
            assert answer.headers["Content-Length"] == str(len(expected))


def test_versions_are_listed_newest_first_in_pages(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    for name in ("b", "a", "b", "c", "b"):
        bucket.upload_bytes(name.encode(), name)
    session, found = b2_endpoint.api().session, []
    place: dict[str, str] = {}
    while True:
        page = session.list_file_versions(bucket.id_, max_file_count=2, **place)
        found += [(each["fileName"], each["uploadTimestamp"]) for each in page["files"]]
        if page["nextFileName"] is None:
            break
        place = {"start_file_name": page["nextFileName"], "start_file_id": page["nextFileId"]}
    assert [name for name, _ in found] == ["a", "b", "b", "b", "c"]
    assert found[1:4] == sorted(found[1:4], key=lambda each: -each[1])


def test_a_page_can_begin_at_a_version_that_is_gone(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    made = [bucket.upload_bytes(b"x", "x") for _ in range(3)]
    made[1].delete()
    page = b2_endpoint.api().session.list_file_versions(
        bucket.id_, start_file_name="x", start_file_id=made[1].id_
    )
    assert [each["fileId"] for each in page["files"]] == [made[0].id_]


def test_hiding_leaves_the_versions(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    old = bucket.upload_bytes(b"old", "x")
    bucket.hide_file("x")
    assert list(bucket.ls()) == []
    assert [each.action for each, _ in bucket.ls(latest_only=False)] == ["hide", "upload"]
    with pytest.raises(FileNotPresent):
        content(bucket, "x")
    taken = io.BytesIO()
    bucket.download_file_by_id(old.id_).save(taken)
    assert taken.getvalue() == b"old"
    with pytest.raises(FileAlreadyHidden):
        bucket.hide_file("x")
    with pytest.raises(FileNotPresent):
        bucket.hide_file("y")
    bucket.unhide_file("x")
    assert content(bucket, "x") == b"old"


def test_deleting_the_newest_version_brings_the_one_before_back(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    bucket.upload_bytes(b"old", "x")
    newest = bucket.upload_bytes(b"new", "x")
    assert content(bucket, "x") == b"new"
    bucket.delete_file_version(newest.id_, "x")
    assert content(bucket, "x") == b"old"
    with pytest.raises(FileNotPresent):
        bucket.delete_file_version(newest.id_, "x")


def test_prefix_and_delimiter_make_folders(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    for name in ("a/1", "a/2", "a/b/1", "c", "d/1"):
        bucket.upload_bytes(b"x", name)
    assert [(each.file_name, folder) for each, folder in bucket.ls()] == [
        ("a/1", "a/"),
        ("c", None),
        ("d/1", "d/"),
    ]
    token = b2_endpoint.api().account_info.get_account_auth_token()
    found: list[tuple[str, str]] = []
    start = None
    while True:
        page = requests.post(
            f"{b2_endpoint.url}/b2api/v4/b2_list_file_names",
            json={"bucketId": bucket.id_, "delimiter": "/", "prefix": "a/", "maxFileCount": 1,
                  "startFileName": start},
            headers={"Authorization": token}, timeout=10,
        ).json()  # fmt: skip
        found += [(each["action"], each["fileName"]) for each in page["files"]]
        if (start := page["nextFileName"]) is None:
            break
    assert found == [("upload", "a/1"), ("upload", "a/2"), ("folder", "a/b/")]


def test_a_file_can_be_copied_on_the_server(b2_endpoint: B2Endpoint) -> None:
    bucket, other = b2_endpoint.create_bucket(), b2_endpoint.create_bucket()
    source = bucket.upload_bytes(b"0123456789", "x", file_info={"a": "b"})
    whole = bucket.copy(source.id_, "y")
    assert (whole.content_sha1, whole.file_info) == (source.content_sha1, {"a": "b"})
    other.copy(source.id_, "z", offset=2, length=3, content_type="text/x", file_info={"c": "d"})
    source.delete()
    assert (content(bucket, "y"), content(other, "z")) == (b"0123456789", b"234")
    assert bucket.get_file_info_by_id(whole.id_).action == "upload"


def test_other_versions_of_the_api_are_refused(b2_endpoint: B2Endpoint) -> None:
    answer = requests.post(f"{b2_endpoint.url}/b2api/v3/b2_list_buckets", json={}, timeout=10)
    assert answer.status_code == 400
    assert "v4 only" in answer.json()["message"]

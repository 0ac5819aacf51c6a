"""Keys, tokens and what each key may do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import requests
from b2sdk.v3.exception import (  # type: ignore[import-untyped]
    BadRequest,
    FileNotPresent,
    InvalidAuthToken,
    MaxRetriesExceeded,
    Unauthorized,
)

from standins.b2_server.endpoint import ApplicationKey, running_endpoint

if TYPE_CHECKING:
    from pathlib import Path

    from standins.b2_server.endpoint import B2Endpoint

WRITER = ("listBuckets", "listFiles", "writeFiles")
READER = ("listBuckets", "listFiles", "readFiles")


def test_wrong_secrets_and_unknown_keys_are_refused(b2_endpoint: B2Endpoint) -> None:
    for key in (ApplicationKey(b2_endpoint.key_id, "no"), ApplicationKey("no", b2_endpoint.key)):
        with pytest.raises(Unauthorized) as refused:
            b2_endpoint.api(key)
        assert refused.value.code == "unauthorized"


def test_a_made_up_token_is_bad(b2_endpoint: B2Endpoint) -> None:
    answer = requests.post(
        f"{b2_endpoint.url}/b2api/v4/b2_list_buckets",
        json={"accountId": b2_endpoint.account_id},
        headers={"Authorization": "4_made.up"},
        timeout=10,
    )
    assert answer.status_code == 401
    assert answer.json() == {
        "status": 401,
        "code": "bad_auth_token",
        "message": "Invalid authorization token",
    }


def test_authorize_tells_what_the_key_may_do(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    api = b2_endpoint.api(b2_endpoint.create_key("writer", WRITER, bucket, "orders/"))
    assert api.account_info.get_allowed() == {
        "buckets": [{"id": bucket.id_, "name": bucket.name}],
        "capabilities": list(WRITER),
        "namePrefix": "orders/",
    }
    assert api.account_info.get_absolute_minimum_part_size() == 5_000_000
    assert api.account_info.get_recommended_part_size() == 100_000_000


def test_a_writer_can_write_below_its_prefix_only(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    api = b2_endpoint.api(b2_endpoint.create_key("writer", WRITER, bucket, "orders/"))
    own = api.get_bucket_by_name(bucket.name)
    version = own.upload_bytes(b"dump", "orders/1")
    with pytest.raises(MaxRetriesExceeded, match="unauthorized"):
        own.upload_bytes(b"dump", "people/1")
    with pytest.raises(Unauthorized):
        api.services.large_file.start_large_file(bucket.id_, "people/1")
    with pytest.raises(Unauthorized):
        list(own.ls("", recursive=True))
    assert [each.file_name for each, _ in own.ls("orders/")] == ["orders/1"]
    for refused in (
        lambda: own.delete_file_version(version.id_, "orders/1"),
        lambda: own.download_file_by_name("orders/1"),
        lambda: api.download_file_by_id(version.id_),
        lambda: own.get_file_info_by_id(version.id_),
        lambda: api.create_key(["listFiles"], "other"),
        lambda: api.create_bucket("another-bucket", "allPrivate"),
        lambda: own.update(bucket_type="allPublic"),
        lambda: list(api.list_keys()),
        lambda: api.delete_bucket(own),
        lambda: own.get_download_authorization("orders/", 60),
    ):
        with pytest.raises(Unauthorized):
            refused()


def test_a_key_of_one_bucket_does_not_see_another(b2_endpoint: B2Endpoint) -> None:
    own, other = b2_endpoint.create_bucket(), b2_endpoint.create_bucket()
    secret = other.upload_bytes(b"x", "x")
    api = b2_endpoint.api(b2_endpoint.create_key("reader", READER, own))
    with pytest.raises(Unauthorized):
        api.session.list_file_names(other.id_)
    with pytest.raises(Unauthorized):
        api.session.list_buckets(b2_endpoint.account_id)
    with pytest.raises(Unauthorized):
        api.download_file_by_id(secret.id_)
    assert [bucket.name for bucket in api.list_buckets(bucket_name=own.name)] == [own.name]


def test_without_the_right_file_retention_is_unknown(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    api = b2_endpoint.api(b2_endpoint.create_key("writer", WRITER, bucket))
    version = api.get_bucket_by_name(bucket.name).upload_bytes(b"x", "x")
    assert version.file_retention.mode.value == "unknown"
    assert bucket.get_file_info_by_id(version.id_).file_retention.mode.value is None


def test_keys_are_listed_deleted_and_expire(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        api = endpoint.api()
        short = endpoint.create_key("short", READER, seconds=60)
        long = endpoint.create_key("long", READER)
        assert [key.key_name for key in api.list_keys()] == ["short", "long"]
        used = endpoint.api(short)
        endpoint.advance(seconds=61)
        with pytest.raises(Unauthorized):
            used.list_buckets()
        held = endpoint.api(long)
        api.delete_key_by_id(long.key_id)
        with pytest.raises(Unauthorized):
            held.list_buckets()
        with pytest.raises(BadRequest):
            api.delete_key_by_id(long.key_id)
        text = "".join(path.read_text(errors="replace") for path in (tmp_path / "data").iterdir()
                       if path.is_file())  # fmt: skip
        assert long.key not in text
        assert endpoint.key not in text


def test_an_account_token_expires_and_b2sdk_gets_another(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        api = endpoint.api()
        token = api.account_info.get_account_auth_token()
        endpoint.advance(days=1, seconds=1)
        raw = api.session.raw_api
        with pytest.raises(InvalidAuthToken) as refused:
            raw.list_buckets(endpoint.url, token, endpoint.account_id)
        assert refused.value.code == "expired_auth_token"
        assert api.list_buckets() == []
        assert api.account_info.get_account_auth_token() != token


def test_a_download_authorisation_opens_its_prefix_only(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    for name in ("open/a", "shut/a"):
        bucket.upload_bytes(b"text", name)
    token = bucket.get_download_authorization("open/", 60)
    address = f"{b2_endpoint.url}/file/{bucket.name}"
    headers = {"Authorization": token}
    assert requests.get(f"{address}/open/a", headers=headers, timeout=10).content == b"text"
    assert requests.get(f"{address}/shut/a", headers=headers, timeout=10).status_code == 401
    assert requests.get(f"{address}/open/a", timeout=10).status_code == 401


def test_a_public_bucket_needs_no_token(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    bucket.upload_bytes(b"text", "a")
    bucket.update(bucket_type="allPublic")
    answer = requests.get(f"{b2_endpoint.url}/file/{bucket.name}/a", timeout=10)
    assert answer.content == b"text"


def test_absent_files_are_told_from_refused_ones(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    with pytest.raises(FileNotPresent):
        bucket.download_file_by_name("nothing")
    with pytest.raises(FileNotPresent):
        b2_endpoint.api().get_file_info("4_z" + bucket.id_ + "_f0")
    with pytest.raises(FileNotPresent):
        b2_endpoint.api().delete_file_version("4_z" + bucket.id_ + "_f0", "nothing")


def test_test_routes_are_for_the_master_key(b2_endpoint: B2Endpoint) -> None:
    other = b2_endpoint.create_key("reader", READER)
    address = f"{b2_endpoint.url}/harmattan-test"
    for auth in (None, (other.key_id, other.key)):
        answer = requests.post(f"{address}/clock", json={}, auth=auth, timeout=10)
        assert answer.status_code == 401
    assert requests.get(f"{address}/health", timeout=10).json() == {"status": "ok"}


def test_no_secret_is_logged(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        key = endpoint.create_key("reader", READER)
        api = endpoint.api(key)
        with pytest.raises(Unauthorized):
            api.create_bucket("some-bucket", "allPrivate")
        token = api.account_info.get_account_auth_token()
        requests.get(f"{endpoint.url}/file/a/b?Authorization={token}", timeout=10)
    log = (tmp_path / "server.log").read_text()
    credentials = json.loads((tmp_path / "credentials.json").read_text())
    for secret in (key.key, token, credentials["key"]):
        assert secret not in log

"""The process: its command line, restarts, memory, and running from a copied folder."""

from __future__ import annotations

import hashlib
import io
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from scripts.repository import ROOT
from standins.b2_server.endpoint import B2Endpoint, running_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1 << 20


class Zeroes(io.RawIOBase):
    """A stream of so many bytes that is never held in memory."""

    def __init__(self, length: int) -> None:
        self.left = length

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = min(size, MEGABYTE, self.left) if size >= 0 else self.left
        self.left -= size
        return bytes(size)


def peak_kilobytes(endpoint: B2Endpoint) -> int:
    assert endpoint.process is not None
    status = Path(f"/proc/{endpoint.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what the server does in its own time, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_data_keys_tokens_and_clock_survive_a_restart(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket()
        bucket.upload_bytes(b"kept", "kept")
        unfinished = endpoint.api().services.large_file.start_large_file(
            bucket.id_, "half", "b2/x-auto"
        )
        api = endpoint.api(endpoint.create_key("reader", ("listBuckets", "readFiles")))
        endpoint.advance(seconds=12 * 3600)
        token = api.account_info.get_account_auth_token()
        for kill in (False, True):
            endpoint.stop(kill=kill)
            endpoint.start()
            into = io.BytesIO()
            api.get_bucket_by_name(bucket.name).download_file_by_name("kept").save(into)
            assert into.getvalue() == b"kept"
        assert api.account_info.get_account_auth_token() == token
        found = [each.file_id for each in bucket.list_unfinished_large_files()]
        assert found == [unfinished.file_id]
        endpoint.advance(seconds=12 * 3600 + 1)
        api.list_buckets()
        assert api.account_info.get_account_auth_token() != token


def test_an_upload_has_its_token_alone_and_leaves_nothing_when_cut_off(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket()
        target = endpoint.api().session.get_upload_url(bucket.id_)
        host, _, port = endpoint.url.removeprefix("http://").partition(":")
        head = (
            f"POST {target['uploadUrl'].removeprefix(endpoint.url)} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: {target['authorizationToken']}\r\nX-Bz-File-Name: x\r\n"
            "Content-Type: b2/x-auto\r\nX-Bz-Content-Sha1: do_not_verify\r\n"
            "Content-Length: 1000000\r\n\r\n"
        )
        incoming = tmp_path / "data" / "incoming"
        for kill in (False, True):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(head.encode() + bytes(500_000))
                wait_until(lambda: any(path.stat().st_size for path in incoming.iterdir()))
                second = requests.post(
                    target["uploadUrl"], data=b"x", timeout=10,
                    headers={
                        "Authorization": target["authorizationToken"], "X-Bz-File-Name": "x",
                        "Content-Type": "b2/x-auto", "X-Bz-Content-Sha1": "do_not_verify",
                    },
                )  # fmt: skip
                assert second.json()["code"] == "auth_token_limit"
                if kill:
                    endpoint.stop(kill=True)
            if kill:
                endpoint.start()
            wait_until(lambda: not any(incoming.iterdir()))
            assert list(bucket.ls(latest_only=False)) == []
        assert list((tmp_path / "data" / "blobs").iterdir()) == []
        assert "Traceback" not in (tmp_path / "server.log").read_text()


@pytest.mark.slow
def test_memory_stays_flat_over_200_megabytes(tmp_path: Path) -> None:
    with running_endpoint(tmp_path) as endpoint:
        bucket = endpoint.create_bucket()
        bucket.upload_bytes(b"x", "x")
        before = peak_kilobytes(endpoint)
        bucket.upload_unbound_stream(
            Zeroes(200 * MEGABYTE), "large", min_part_size=5_000_000,
            recommended_upload_part_size=20_000_000,
        )  # fmt: skip
        with open(os.devnull, "wb") as nowhere:
            bucket.download_file_by_name("large").save(nowhere, allow_seeking=False)
        assert peak_kilobytes(endpoint) - before < 32 * 1024


def test_the_folder_runs_alone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "standins/b2_server", tmp_path / "b2_server")
    (tmp_path / "credentials.json").write_text('{"account_id": "a", "key_id": "b", "key": "c"}')
    with subprocess.Popen(
        [sys.executable, "-m", "b2_server", "--data", "data", "--port", "0",
         "--credentials", "credentials.json"],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        url = server.stdout.readline().removeprefix("listening on ").strip()
        answer = requests.post(
            f"{url}/b2api/v4/b2_authorize_account", json={}, auth=("b", "c"), timeout=10
        )
        server.terminate()
    assert answer.json()["accountId"] == "a"


def test_help_teaches_and_wrong_credentials_are_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "standins.b2_server"]
    shown = subprocess.run(
        [*command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    for word in ("--minimum-part-size", "realm", "/harmattan-test/clock", "close_mid_body"):
        assert word in shown.stdout
    (tmp_path / "bad.json").write_text('{"account_id": "a", "key": "hush"}')
    refused = subprocess.run(
        [*command, "--data", tmp_path / "data", "--credentials", tmp_path / "bad.json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )  # fmt: skip
    assert refused.returncode == 2
    assert "bad.json" in refused.stderr
    assert "hush" not in refused.stderr


def test_contents_are_stored_as_they_are_sent(b2_endpoint: B2Endpoint) -> None:
    bucket = b2_endpoint.create_bucket()
    content = random.Random(1).randbytes(1000)
    bucket.upload_bytes(content, "x")
    digest = hashlib.sha256(content).digest()
    blobs = (b2_endpoint.home / "data" / "blobs").iterdir()
    assert digest in [hashlib.sha256(path.read_bytes()).digest() for path in blobs]


@pytest.mark.parametrize("path", ["/", "/b2api/v4/b2_nothing", "/harmattan-test/nothing"])
def test_unknown_paths_get_b2s_error_body(b2_endpoint: B2Endpoint, path: str) -> None:
    token = b2_endpoint.api().account_info.get_account_auth_token()
    headers = None if "harmattan" in path else {"Authorization": token}
    auth = (b2_endpoint.key_id, b2_endpoint.key) if "harmattan" in path else None
    answer = requests.post(
        b2_endpoint.url + path, json={}, headers=headers, auth=auth, timeout=10
    )  # fmt: skip
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_request"

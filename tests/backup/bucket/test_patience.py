"""Every error of B2's published list, at every call: tried again, or final."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from b2sdk.v3.exception import B2ConnectionError, ChecksumMismatch, TruncatedOutput
from requests.exceptions import InvalidURL, SSLError

from backup.bucket import patience
from backup.bucket.lifecycle import Rule
from backup.bucket.store import open_store
from backup.bucket.upload import PartPlan
from backup.settings import B2Key, Settings
from frame.failure import Failure
from standins.b2_server.endpoint import running_endpoint

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator

    from backup.bucket.store import Store
    from standins.b2_server.endpoint import B2Endpoint

PART = 1000
CONCURRENT = "more than one upload using auth token 4_abc"
# Backblaze's pages on errors and on each call; the words are those that mean something to b2sdk.
FINAL: list[tuple[int, str, str | None]] = [
    (400, "bad_request", None),
    (400, "bad_json", None),
    (400, "bad_bucket_id", None),
    (400, "invalid_bucket_id", None),
    (400, "invalid_file_id", None),
    (400, "file_not_present", None),
    (400, "no_such_file", None),
    (400, "out_of_range", None),
    (400, "missing_part", None),
    (400, "part_sha1_mismatch", None),
    (400, "source_too_large", "Copy source too big: 6000000000"),
    (400, "cap_exceeded", None),
    (400, "too_many_buckets", None),
    (400, "duplicate_bucket_name", None),
    (401, "unauthorized", None),
    (401, "unsupported", None),
    (401, "missing_auth_token", None),
    (401, "email_not_verified", None),
    (401, "no_payment_history", None),
    (403, "access_denied", None),
    (403, "cap_exceeded", None),
    (403, "storage_cap_exceeded", None),
    (403, "transaction_cap_exceeded", None),
    (403, "download_cap_exceeded", None),
    (404, "not_found", None),
    (405, "method_not_allowed", None),
    (409, "conflict", None),
    (416, "range_not_satisfiable", None),
]
AGAIN: list[tuple[int, str, str | None]] = [
    (400, "auth_token_limit", CONCURRENT),
    (400, "auth_token_limit", "other words: more than one upload using auth token"),
    (400, "bad_request", CONCURRENT),
    (400, "bad_request", "Sha1 did not match data received"),
    (408, "request_timeout", None),
    (429, "too_many_requests", None),
    (500, "internal_error", None),
    (502, "bad_gateway", None),
    (503, "service_unavailable", None),
    (504, "gateway_timeout", None),
]
# Tried again with a new token; but the key's own, of which they say that it is wrong.
OF_TOKENS: list[tuple[int, str, str | None]] = [
    (401, "bad_auth_token", None),
    (401, "expired_auth_token", None),
]


class Source:
    """Three parts of zeros."""

    def __init__(self) -> None:
        self.left = 3 * PART

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self.left)
        self.left -= size
        return size


class Shelf:
    """An endpoint with small parts, one bucket with one file, and a key that may do everything."""

    def __init__(self, endpoint: B2Endpoint, settings: Settings) -> None:
        self.endpoint = endpoint
        self.settings = settings
        self.key = B2Key.model_validate({"key_id": endpoint.key_id, "key": endpoint.key})
        self.bucket = endpoint.create_bucket(settings.bucket)
        self.file_id = self.bucket.upload_bytes(b"kept", "local/hr/kept").id_
        self.days = count(1)
        self.names = (f"local/hr/{number}" for number in count())

    def opened(self) -> contextlib.AbstractContextManager[Store]:
        return open_store(self.settings, self.key)

    def open(self, _store: Store) -> None:
        with self.opened():
            pass

    def rules(self, store: Store) -> None:
        revision, _ = store.lifecycle_rules()
        days = next(self.days)
        store.set_lifecycle_rules([Rule("local/hr/", days, 14, None).as_b2()], revision)
        assert [Rule.of(rule).hide_after for rule in store.lifecycle_rules()[1]] == [days]

    def list(self, store: Store) -> None:
        assert list(store.list("local/hr"))

    def put(self, store: Store) -> None:
        name = next(self.names)
        store._api.account_info.clear_bucket_upload_data(store._bucket.id_)  # or there is an URL
        store.put(name, b"{}")
        assert [found.name for found in store.list("local/hr") if found.name == name]

    def upload(self, store: Store) -> None:
        name = next(self.names)
        assert store.upload_stream(name, Source(), PartPlan(PART, 2)).size == 3 * PART
        assert [found.size for found in store.list("local/hr") if found.name == name] == [3 * PART]

    def cancel(self, store: Store) -> None:
        """Cancel, which never raises for B2's errors: what is left tells."""
        name = next(self.names)
        self.bucket.api.services.large_file.start_large_file(self.bucket.id_, name, "text/plain")
        store.cancel_unfinished(name)
        if left := list(self.bucket.list_unfinished_large_files(prefix=name)):
            self.bucket.api.cancel_large_file(left[0].file_id)
            raise Failure("it is left", hint="")

    def stream(self, store: Store) -> None:
        assert b"".join(store.stream("kept", self.file_id)) == b"kept"

    def get(self, store: Store) -> None:
        assert store.get("kept", self.file_id) == b"kept"

    def copy(self, store: Store) -> None:
        store.copy(self.file_id, next(self.names), len(b"kept"))


CALLS: dict[str, Callable[[Shelf, Store], None]] = {
    "authorize_account": Shelf.open,
    "list_buckets": Shelf.rules,
    "update_bucket": Shelf.rules,
    "list_file_versions": Shelf.list,
    "get_upload_url": Shelf.put,
    "upload_file": Shelf.put,
    "start_large_file": Shelf.upload,
    "get_upload_part_url": Shelf.upload,
    "upload_part": Shelf.upload,
    "finish_large_file": Shelf.upload,
    "list_unfinished_large_files": Shelf.cancel,
    "cancel_large_file": Shelf.cancel,
    "get_file_info": Shelf.stream,
    "download_file_by_id": Shelf.get,
    "copy_file": Shelf.copy,
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    home = tmp_path_factory.mktemp("b2")
    with running_endpoint(home, "--minimum-part-size", str(PART)) as endpoint:
        settings = Settings(
            secrets_dir=home, b2_realm=endpoint.url, bucket="test-patience", prefix="local"
        )
        yield Shelf(endpoint, settings)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)


def ended(shelf: Shelf, store: Store, operation: str, fault: dict[str, Any]) -> str:
    """Return how the call's work ended that meets ``fault`` at first."""
    shelf.endpoint.set_faults({"operation": operation, **fault})
    try:
        with store.tidied():
            CALLS[operation](shelf, store)
    except Failure:
        outcome = "final"
    else:
        outcome = "again"
    assert shelf.endpoint.faults_left() == [], (operation, fault)
    return outcome


@pytest.mark.filterwarnings("ignore:bad request exception with an unknown")
@pytest.mark.parametrize("operation", CALLS)
def test_what_another_try_may_mend_is_tried_again_and_nothing_else(
    shelf: Shelf, operation: str
) -> None:
    of_the_key = "final" if operation == "authorize_account" else "again"
    expected = {
        **dict.fromkeys(FINAL, "final"),
        **dict.fromkeys(AGAIN, "again"),
        **dict.fromkeys(OF_TOKENS, of_the_key),
    }
    with shelf.opened() as store:
        seen = {
            (status, code, message): ended(
                shelf,
                store,
                operation,
                {"kind": "status", "status": status, "code": code, "message": message},
            )
            for status, code, message in expected
        }
    assert seen == expected


@pytest.mark.parametrize("kind", ["close", "close_mid_body", "lose_answer", "empty_answer"])
@pytest.mark.parametrize("operation", CALLS)
def test_an_answer_that_is_lost_or_no_answer_is_asked_for_again(
    shelf: Shelf, operation: str, kind: str
) -> None:
    with shelf.opened() as store:
        assert ended(shelf, store, operation, {"kind": kind}) == "again"
    assert list(shelf.bucket.list_unfinished_large_files()) == []


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (B2ConnectionError("Connection refused"), True),
        (SSLError("end of file"), True),
        (InvalidURL("no host"), False),
        (ChecksumMismatch("sha1", "a", "b"), True),
        (TruncatedOutput(1, 2), True),
        (ValueError("ours"), False),
    ],
)
def test_an_error_without_a_status_is_told_by_its_kind(error: Exception, again: bool) -> None:
    assert patience.is_transient(error) is again

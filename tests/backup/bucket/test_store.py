from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from backup.bucket.store import Store, open_store
from backup.bucket.upload import PartPlan
from backup.deadline import time_limit
from frame.failure import Failure, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House

PART = 5_000_000
PLAN = PartPlan(PART, 2)


class Source:
    """A stream of ``parts`` random parts that then ends, or raises ``error``."""

    def __init__(self, parts: int, error: BaseException | None = None) -> None:
        self.left = parts * PART
        self.error = error
        self.chance = random.Random(parts)

    def readinto(self, buffer: memoryview) -> int:
        if not self.left and self.error:
            raise self.error
        data = self.chance.randbytes(min(len(buffer), self.left, 1 << 20))
        buffer[: len(data)] = data
        self.left -= len(data)
        return len(data)


@contextmanager
def opened(house: House) -> Iterator[Store]:
    with open_store(house.settings, house.settings.b2_key()) as store:
        yield store


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_a_stream_becomes_one_object(empty_house: House, parts: int) -> None:
    empty_house.use_key("listFiles", "writeFiles")
    with opened(empty_house) as store:
        stored = store.upload_stream("local/hr/a", Source(parts), PLAN)
    assert stored.size == parts * PART
    assert (empty_house.names(), empty_house.unfinished()) == (["local/hr/a"], [])


@pytest.mark.parametrize("parts", [0, 2, 4])
def test_a_stream_that_raises_leaves_nothing(empty_house: House, parts: int) -> None:
    error = Failure("pg_dump ended with 1", hint="")
    with pytest.raises(Failure, match="pg_dump ended with 1"), opened(empty_house) as store:
        store.upload_stream("local/hr/a", Source(parts, error), PLAN)
    assert (empty_house.names(), empty_house.unfinished()) == ([], [])


def test_a_part_that_is_refused_leaves_nothing(empty_house: House) -> None:
    refusal = {"operation": "upload_part", "kind": "status", "status": 400, "count": 50}
    empty_house.endpoint.set_faults(refusal)
    try:
        with (
            pytest.raises(Failure, match="upload of local/hr/a failed"),
            opened(empty_house) as store,
        ):
            store.upload_stream("local/hr/a", Source(3), PLAN)
    finally:
        empty_house.endpoint.set_faults()
    assert (empty_house.names(), empty_house.unfinished()) == ([], [])


def test_only_the_failed_file_is_cancelled(empty_house: House) -> None:
    services = empty_house.bucket.api.services.large_file
    other = services.start_large_file(empty_house.bucket.id_, "local/hr/b", "text/plain")
    with pytest.raises(Failure), opened(empty_house) as store:
        store.upload_stream("local/hr/a", Source(3, Failure("no", hint="")), PLAN)
    assert empty_house.unfinished() == [other.file_name]


def test_a_manifest_gets_through_bad_weather(empty_house: House) -> None:
    empty_house.endpoint.set_faults(
        {"operation": "upload_file", "kind": "status", "status": 503, "count": 2},
        {"operation": "upload_file", "kind": "lose_answer"},
    )
    with opened(empty_house) as store:
        store.put("local/hr/m", b"{}")
    empty_house.read()
    with opened(empty_house) as store:
        (found,) = store.list("local/hr")
        assert store.get(found.name, found.file_id) == b"{}"


def test_the_first_version_counts_whatever_is_written_or_hidden_over_it(empty_house: House) -> None:
    first = empty_house.bucket.upload_bytes(b"true", "local/hr/m")
    empty_house.endpoint.advance(seconds=2)
    empty_house.bucket.upload_bytes(b"false", "local/hr/m")
    empty_house.bucket.hide_file("local/hr/m")
    empty_house.bucket.upload_bytes(b"other", "local/hr2/m")
    with opened(empty_house) as store:
        (found,) = store.list("local/hr")
    assert found.file_id == first.id_
    assert found.hidden is not None
    assert 2000 <= found.hidden - found.uploaded < 20_000


def test_a_twin_that_a_lost_answer_made_hides_nothing(empty_house: House) -> None:
    for _ in range(2):
        empty_house.bucket.upload_bytes(b"true", "local/hr/m")
        empty_house.endpoint.advance(seconds=2)
    with opened(empty_house) as store:
        (found,) = store.list("local/hr")
    assert found.hidden is None


def test_a_download_comes_in_its_order_whatever_the_weather(empty_house: House) -> None:
    data = random.Random(8).randbytes(70_000_000)
    stored = empty_house.bucket.upload_bytes(data, "local/hr/a")
    empty_house.read()
    with opened(empty_house) as store:
        empty_house.endpoint.set_faults(
            {"operation": "download", "kind": "status", "status": 503, "retry_after": 1},
            {"operation": "download", "kind": "close_mid_body"},
            {"operation": "download", "kind": "close"},
        )
        blocks = list(store.stream(stored.file_name, stored.id_))
        assert b"".join(blocks) == data
        assert [len(block) for block in blocks[:-1]] == [4 << 20] * 16
        empty_house.endpoint.advance(days=2)
        assert b"".join(store.stream(stored.file_name, stored.id_)) == data


def test_a_download_that_is_stopped_leaves_no_thread(empty_house: House) -> None:
    stored = empty_house.bucket.upload_bytes(bytes(20_000_000), "local/hr/a")
    empty_house.read()
    with opened(empty_house) as store:
        empty_house.endpoint.set_faults(
            {"operation": "download", "kind": "status", "status": 503, "count": 100}
        )
        with pytest.raises(Stopped), time_limit(1):
            next(store.stream(stored.file_name, stored.id_))
    until = time.monotonic() + 10
    while any(thread.name.startswith("range") for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.05)
    empty_house.endpoint.set_faults()


def test_an_empty_object_has_no_blocks(empty_house: House) -> None:
    stored = empty_house.bucket.upload_bytes(b"", "local/hr/a")
    empty_house.read()
    with opened(empty_house) as store:
        assert list(store.stream("local/hr/a", stored.id_)) == []


def test_a_key_that_may_not_write_is_known_beforehand(empty_house: House) -> None:
    with opened(empty_house) as store:
        assert store.may("writeFiles", "local/drills/a")
    empty_house.use_key("listFiles", "writeFiles", prefix="local/hr/")
    with opened(empty_house) as store:
        assert not store.may("writeFiles", "local/drills/a")
    empty_house.read()
    with opened(empty_house) as store:
        assert not store.may("writeFiles", "local/drills/a")


@pytest.mark.parametrize("fault", ["key", "bucket", "realm"])
def test_a_store_that_cannot_be_opened_is_one_clear_error(empty_house: House, fault: str) -> None:
    settings = empty_house.settings
    if fault == "key":
        empty_house.secret("b2.json", '{"key_id": "0000", "key": "K00hush"}')
    if fault == "bucket":
        settings = settings.model_copy(update={"bucket": "another-bucket"})
    if fault == "realm":
        settings = settings.model_copy(update={"b2_realm": "https://s3.invalid:bad"})
    with (
        pytest.raises(Failure, match="failed") as caught,
        open_store(settings, settings.b2_key()),
    ):
        pass
    assert "hush" not in caught.value.message

"""The upload of a stream in parts: what sizes they have, and what bad weather does to them."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from b2sdk.v3 import B2Http, B2HttpApiConfig
from b2sdk.v3.exception import B2Error
from hypothesis import given
from hypothesis import strategies as st

from backup.bucket import patience
from backup.bucket.store import open_store
from backup.bucket.upload import LARGEST_PART, PARTS_LIMIT, Paced, PartPlan, plan_parts
from frame.failure import Failure
from tests.backup.conftest import add_megabytes, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House

PART = 5_000_000
TERABYTE = 10**12
INTERPRETER = 75_000_000  # bytes, with b2sdk and psycopg


class Stream:
    """Random bytes that are remembered by their digest, in reads of any length."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.chance = random.Random(size)
        self.digest = hashlib.sha256()

    def readinto(self, buffer: memoryview) -> int:
        data = self.chance.randbytes(min(len(buffer), self.left, 777_777))
        buffer[: len(data)] = data
        self.left -= len(data)
        self.digest.update(data)
        return len(data)


@given(st.integers(0, 9 * TERABYTE), st.integers(5_000_000, 64 << 20))
def test_ten_thousand_parts_always_hold_more_than_expected(expected: int, minimum: int) -> None:
    plan = plan_parts(expected, minimum)
    assert plan.capacity >= max(expected, 1.25 * min(expected, 7 * TERABYTE), 2 * TERABYTE)
    sizes = [plan.size(number) for number in (1, 9_000, 9_001, 9_500, PARTS_LIMIT)]
    assert sizes == sorted(sizes)
    assert sizes[0] == sizes[1] >= minimum
    assert sizes[-1] <= LARGEST_PART


def test_part_ten_thousand_and_one_is_refused() -> None:
    plan = PartPlan(PART, 2)
    assert plan.size(PARTS_LIMIT) == LARGEST_PART
    with pytest.raises(Failure, match=f"longer than the {plan.capacity} bytes that 10000"):
        plan.size(PARTS_LIMIT + 1)


@pytest.mark.parametrize("gigabytes", [1, 10, 100, 280, 300, 500])
def test_parts_stay_within_the_memory_that_is_promised(gigabytes: int) -> None:
    plan = plan_parts(gigabytes * 10**9, 16 << 20)
    assert INTERPRETER + plan.buffers * plan.first < 200_000_000
    # The whole of it goes into the steady parts.
    assert 9_000 * plan.first >= 1.1 * gigabytes * 10**9


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no wait be longer than a tenth of a second."""
    monkeypatch.setattr(patience, "LONGEST_WAIT", 0.1)


@pytest.fixture
def weather(empty_house: House, quick: None) -> Iterator[House]:
    yield empty_house
    empty_house.endpoint.set_faults()


def uploaded(house: House, size: int, plan: PartPlan) -> Stream:
    """Upload ``size`` bytes and hold what is in the bucket against what was sent."""
    stream, told = Stream(size), list[int]()
    with open_store(house.settings, house.settings.b2_key(), told.append) as store:
        stored = store.upload_stream("local/hr/a", stream, plan)
    house.endpoint.set_faults()
    house.read()
    with open_store(house.settings, house.settings.b2_key()) as store:
        found = b"".join(store.stream("local/hr/a", stored.file_id))
    assert hashlib.sha256(found).hexdigest() == stream.digest.hexdigest()
    assert stored.size == size == sum(told)
    assert house.names() == ["local/hr/a"]
    return stream


@pytest.mark.parametrize(
    ("size", "buffers"),
    [(1, 2), (PART - 1, 2), (PART, 2), (PART + 1, 2), (4 * PART, 2), (4 * PART + 9, 3)],
)
def test_what_arrives_is_what_was_sent(empty_house: House, size: int, buffers: int) -> None:
    uploaded(empty_house, size, PartPlan(PART, buffers))
    assert empty_house.unfinished() == []


PARTS_FAULTS: dict[str, dict[str, Any]] = {
    "503": {"kind": "status", "status": 503, "count": 4},
    "503 that names a time": {"kind": "status", "status": 503, "retry_after": 1, "count": 2},
    "429": {"kind": "status", "status": 429, "retry_after": 2, "count": 12},
    "408": {"kind": "status", "status": 408, "count": 4},
    "expired token": {"kind": "status", "status": 401, "count": 3},
    "closed": {"kind": "close", "count": 5},
    "closed in mid-part": {"kind": "close_mid_body", "count": 5},
    "answer lost": {"kind": "lose_answer", "count": 3},
    "wrong SHA-1": {"kind": "wrong_sha1", "count": 3},
    "slow": {"kind": "delay", "seconds": 0.3, "count": 4},
}


@pytest.mark.parametrize("fault", PARTS_FAULTS.values(), ids=PARTS_FAULTS.keys())
def test_a_part_gets_through_bad_weather(weather: House, fault: dict[str, Any]) -> None:
    """Behind the first part, so an address that has served is met by it, and some that have not."""
    weather.endpoint.set_faults({"operation": "upload_part", "after": 1, **fault})
    uploaded(weather, 3 * PART + 1, PartPlan(PART, 3))


@pytest.mark.parametrize(
    "operation", ["start_large_file", "get_upload_part_url", "finish_large_file"]
)
@pytest.mark.parametrize("kind", ["status", "close", "lose_answer"])
def test_every_call_of_a_large_file_gets_through(weather: House, operation: str, kind: str) -> None:
    status = {"status": 503} if kind == "status" else {}
    weather.endpoint.set_faults({"operation": operation, "kind": kind, "count": 2, **status})
    uploaded(weather, 2 * PART, PartPlan(PART, 3))


def test_a_small_object_outlives_more_bad_answers_than_b2sdk_bears(weather: House) -> None:
    weather.endpoint.set_faults(
        {"operation": "upload_file", "kind": "status", "status": 503, "count": 12}
    )
    uploaded(weather, 9, PartPlan(PART, 2))


def test_a_token_that_expires_in_mid_upload_is_replaced(weather: House) -> None:
    stream = Stream(4 * PART)
    with open_store(weather.settings, weather.settings.b2_key()) as store:
        weather.endpoint.advance(seconds=25 * 3600)
        stored = store.upload_stream("local/hr/a", stream, PartPlan(PART, 2))
    assert stored.size == 4 * PART


def test_what_no_try_will_mend_is_not_tried_again(weather: House) -> None:
    weather.endpoint.set_faults(
        {"operation": "upload_part", "kind": "status", "status": 403, "after": 1, "count": 100}
    )
    stream = Stream(50 * PART)
    with (
        pytest.raises(Failure, match="upload of local/hr/a failed"),
        open_store(weather.settings, weather.settings.b2_key()) as store,
    ):
        store.upload_stream("local/hr/a", stream, PartPlan(PART, 2))
    assert stream.left > 40 * PART
    weather.endpoint.set_faults()
    assert (weather.names(), weather.unfinished()) == ([], [])


def test_patience_has_an_end_and_no_thread_outlives_it(
    weather: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 1.0)
    weather.endpoint.set_faults({"operation": "upload_part", "kind": "close", "count": 10_000})
    with (
        pytest.raises(Failure, match="upload of local/hr/a failed"),
        open_store(weather.settings, weather.settings.b2_key()) as store,
    ):
        store.upload_stream("local/hr/a", Stream(9 * PART), PartPlan(PART, 3))
    weather.endpoint.set_faults()
    assert (weather.names(), weather.unfinished()) == ([], [])
    for thread in threading.enumerate():
        if thread.name.startswith("part"):
            thread.join(5)
            assert not thread.is_alive()


def test_an_upload_keeps_to_its_bandwidth(empty_house: House) -> None:
    rate, size = 8_000_000, 3 * PART
    began = time.monotonic()
    with open_store(empty_house.settings, empty_house.settings.b2_key()) as store:
        store.upload_stream("local/hr/a", Paced(Stream(size), rate), PartPlan(PART, 3))
    assert time.monotonic() - began >= size / rate


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                request = b""
                while not request.endswith(b"{}"):  # what is left unread would reset the connection
                    request += connection.recv(4096)
                connection.sendall(half)

        pool.submit(answer)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        http = B2Http(B2HttpApiConfig())
        with pytest.raises(B2Error, match="IncompleteRead") as broken:
            http.request_content_return_json("POST", url, {}, b"{}", try_count=1)
    assert patience.is_transient(broken.value)


def outlive(house: House, seconds: float) -> None:
    """Take the network away for ``seconds`` in the middle of an upload, and give it back."""
    add_megabytes(house.source, 24)
    slow = {"operation": "upload_part", "kind": "delay", "seconds": 0.4, "count": 10_000}
    house.endpoint.set_faults(slow)
    run = house.start("run", "hr")
    eventually(house.unfinished)
    house.endpoint.stop(kill=True)
    try:
        time.sleep(seconds)
        assert run.poll() is None, "it gave up"
    finally:
        house.endpoint.start()
    _, told = run.communicate(timeout=600)
    assert run.returncode == 0, told
    assert told.count("backup started") == 1, "the dump was not started again"
    assert "trying again" in told


def test_a_network_that_goes_and_comes_back_is_waited_for(house: House) -> None:
    outlive(house, 4)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twenty_minutes_without_a_network_are_waited_for(house: House) -> None:
    outlive(house, 20 * 60)

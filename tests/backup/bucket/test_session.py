"""B2's session: its clock, its waits, and answers that are none of B2's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import requests

from backup.bucket.session import BEHIND, Requests
from backup.bucket.store import open_store
from backup.deadline import time_limit
from frame.failure import Failure
from tests.http_server import http_server

if TYPE_CHECKING:
    from tests.backup.conftest import House


@pytest.mark.parametrize(
    ("seconds", "ahead"), [(0, 0), (200, -200)], ids=["the same", "B2's is ahead"]
)
def test_a_store_tells_by_how_much_this_host_s_clock_is_ahead_of_b2_s(
    empty_house: House, seconds: int, ahead: float
) -> None:
    empty_house.endpoint.reset_clock()
    empty_house.endpoint.advance(seconds=seconds)
    with open_store(empty_house.settings, empty_house.settings.b2_key()) as store:
        assert store.clock_ahead is not None
        assert abs(store.clock_ahead - ahead) < 1.5


def test_a_clock_that_is_five_minutes_off_is_refused(empty_house: House) -> None:
    settings = empty_house.settings
    empty_house.endpoint.advance(seconds=310)
    with pytest.raises(Failure, match=r"is 3(09|10|11) s behind B2's"):
        open_store(settings, settings.b2_key()).__enter__()


def test_no_request_waits_longer_than_the_command_has_left() -> None:
    waits = []

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request: object, **how: object) -> requests.Response:
            waits.append(how["timeout"])
            answer = requests.Response()
            answer.status_code = 200
            return answer

    with Requests() as http:
        http.mount("http://", Adapter())
        http.request("GET", "http://b2.example/b2api/v4/b2_upload_part/1/2")
        http.request("POST", "http://b2.example/b2api/v4/b2_copy_file")
        with time_limit(40):
            http.request("POST", "http://b2.example/b2api/v4/b2_copy_file")
    assert waits[:2] == [(46, 128), (46, 1200)]
    assert all(29 < wait <= 30 + BEHIND for wait in waits[2])


def test_an_answer_without_a_date_tells_no_time() -> None:
    with http_server() as server, Requests() as http:
        assert http.ahead is None
        http.request("GET", f"{server.url}/")
        seen = http.ahead
        http._look_at_clock({"Date": "yesterday"}, time.time(), time.time())
        http._look_at_clock({}, time.time(), time.time())
        assert http.ahead == seen

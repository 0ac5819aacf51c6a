"""Downloads whose bytes are not what B2 says they are."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from backup.bucket import patience
from backup.bucket.store import open_store
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House

DATA = random.Random(9).randbytes(6 << 20)


@pytest.fixture
def shelf(empty_house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)
    yield empty_house
    empty_house.endpoint.set_faults()


def test_bytes_that_are_fewer_than_b2_says_are_tried_five_times_and_told(shelf: House) -> None:
    stored = shelf.bucket.upload_bytes(DATA, "x")
    shelf.read()
    with (
        pytest.raises(Failure) as caught,
        open_store(shelf.settings, shelf.settings.b2_key()) as store,
    ):
        shelf.endpoint.set_faults({"operation": "download", "kind": "close_mid_body", "count": 99})
        list(store.stream("x", stored.id_))
    told = "2097152 of 4194304 bytes came for byte 0 of x, 5 times"
    assert caught.value.message == f"object x is shorter than B2 says: {told}"
    assert caught.value.hint.startswith("Use another backup")


def test_a_small_object_that_is_damaged_is_told(shelf: House) -> None:
    stored = shelf.bucket.upload_bytes(b"{}", "x")
    shelf.endpoint.set_faults({"kind": "flip_bit", "file_id": stored.id_, "offset": 0})
    shelf.read()
    with (
        pytest.raises(Failure, match=r"object x has SHA-1 .* where B2 says .*, 5 times"),
        open_store(shelf.settings, shelf.settings.b2_key()) as store,
    ):
        store.get("x", stored.id_)


def test_a_way_that_breaks_off_elsewhere_each_time_is_no_damage(shelf: House) -> None:
    """Half of the whole, then half of the next try: B2 says nothing else about the object."""
    one_range = DATA[: 4 << 20]  # two would share the faults between them by chance
    stored = shelf.bucket.upload_bytes(one_range, "x")
    shelf.read()
    with open_store(shelf.settings, shelf.settings.b2_key()) as store:
        shelf.endpoint.set_faults(
            *({"operation": "download", "kind": kind} for _ in range(6)
              for kind in ("close_mid_body", "close"))
        )  # fmt: skip
        assert b"".join(store.stream("x", stored.id_)) == one_range

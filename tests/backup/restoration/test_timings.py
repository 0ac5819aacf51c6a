from __future__ import annotations

import pytest

from backup.restoration.timings import Timings

TIMINGS = Timings(download=1.5, schema=0.5, data=2, indexes=3, analyse=0.25, other=0.75)


def test_all_of_a_restore_is_its_steps() -> None:
    assert TIMINGS.total == 8
    assert str(TIMINGS) == (
        "download and decrypt 1.5 s, schema 0.5 s, rows 2.0 s, indexes 3.0 s, ANALYZE 0.2 s, "
        "other 0.8 s"
    )


@pytest.mark.parametrize(
    ("timings", "seconds", "size"),
    [
        (Timings(download=2, data=5, indexes=3), 100, 10_000),
        (Timings(download=2, data=5, indexes=3, schema=4, other=6), 100, 9_000),
        (Timings(data=10, other=200), 100, 0),  # the fixed part alone breaks it
        (Timings(other=1), 100, None),
    ],
)
def test_only_what_grows_with_the_rows_is_reckoned_on(
    timings: Timings, seconds: float, size: int | None
) -> None:
    assert timings.size_in(seconds, 1_000) == size

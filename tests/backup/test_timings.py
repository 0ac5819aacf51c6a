from __future__ import annotations

from backup.timings import Timings


def test_all_of_a_restore_is_its_steps() -> None:
    timings = Timings(download=1.5, data=2, indexes=3, analyse=0.25)
    assert timings.total == 6.75
    assert str(timings) == ("download and decrypt 1.5 s, rows 2.0 s, indexes 3.0 s, ANALYZE 0.2 s")

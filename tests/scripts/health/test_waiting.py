from __future__ import annotations

import pytest

from scripts.health.waiting import Lasting, brief


@pytest.mark.parametrize(
    ("looks", "lasts"),
    [
        ([(0, True)], False),
        ([(0, True), (14, True)], False),
        ([(0, True), (15, True)], True),
        ([(0, True), (8, False), (15, True)], False),
        ([(0, True), (8, False), (10, True), (20, True)], False),
        ([(0, True), (8, False), (10, True), (25, True)], True),
        ([(0, False), (30, False)], False),
    ],
)
def test_health_must_last_from_its_first_good_look_on(
    looks: list[tuple[float, bool]], lasts: object
) -> None:
    lasting = Lasting(15)
    assert [lasting.add(at, well=well) for at, well in looks][-1] is lasts


def test_a_long_reason_is_shown_by_what_failed_and_its_cause() -> None:
    long = f"Failed to pull `harmattan/x:1`: {'error: ' * 40}no such host (on node a)"
    assert brief(long).startswith("Failed to pull `harmattan/x:1`: ")
    assert brief(long).endswith("no such host (on node a)")
    assert len(brief(long)) < 180
    assert brief("Exit Code: 3") == "Exit Code: 3"

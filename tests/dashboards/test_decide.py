from __future__ import annotations

import pytest

from dashboards.decide import Act, Last, decide


@pytest.mark.parametrize(
    ("file", "there", "last", "act"),
    [
        ("f", None, None, Act.CREATE),
        ("f", None, Last("f", "t"), Act.CREATE),  # somebody deleted it: the files still have it
        ("f", "t", Last("f", "t"), Act.LEAVE),
        ("f", "by hand", Last("f", "t"), Act.LEAVE),
        ("new", "t", Last("f", "t"), Act.UPDATE),
        ("new", "by hand", Last("f", "t"), Act.CONFLICT),
        ("f", "by hand", None, Act.CONFLICT),
        ("f", "f", None, Act.ADOPT),
        ("by hand", "by hand", Last("f", "t"), Act.ADOPT),
        ("f", "f", Last("f", "f"), Act.LEAVE),
    ],
)
def test_a_hand_made_change_is_never_lost(
    file: str, there: str | None, last: Last | None, act: Act
) -> None:
    assert decide(file=file, there=there, last=last) is act


@pytest.mark.parametrize("last", [None, Last("f", "t"), Last("new", "t")])
def test_what_is_asked_for_by_name_is_overwritten(last: Last | None) -> None:
    assert decide(file="new", there="by hand", last=last, overwrite=True) is Act.UPDATE

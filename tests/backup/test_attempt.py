from __future__ import annotations

import pytest
import tenacity

from backup import attempt as module
from backup.attempt import EARLY_ENDS, Attempt, Attempts, Changed, Disturbed, EndedEarly
from backup.deadline import time_limit
from frame.failure import Failure


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no pause between attempts."""
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _seconds: None)


def test_a_disturbed_attempt_is_repeated_under_another_name() -> None:
    names: list[str] = []

    def work(attempt: Attempt) -> str:
        names.append(attempt.name)
        if len(names) < 20:
            raise Disturbed("somebody waited", hint="")
        return "done"

    assert Attempts().make(work) == "done"
    assert len(set(names)) == 20


@pytest.mark.parametrize(
    ("error", "times"), [(Failure("no", ""), 1), (EndedEarly("no", ""), EARLY_ENDS)]
)
def test_what_another_attempt_does_not_mend_is_raised(error: Failure, times: int) -> None:
    tries = 0

    def work(_attempt: Attempt) -> None:
        nonlocal tries
        tries += 1
        raise error

    with pytest.raises(type(error)):
        Attempts().make(work)
    assert tries == times


def test_a_dump_that_ends_early_in_other_words_each_time_is_repeated() -> None:
    ends = iter(f"could not open relation with OID {number}" for number in range(2 * EARLY_ENDS))

    def work(_attempt: Attempt) -> str:
        for words in ends:
            raise EndedEarly(words, hint="")
        return "done"

    assert Attempts().make(work) == "done"


def test_an_attempt_starts_over_where_definitions_change_but_not_for_ever() -> None:
    def work(attempt: Attempt) -> str:
        if attempt.starts_over():
            raise Changed("function f", hint="")
        return attempt.name

    attempts = Attempts()
    assert attempts.make(work)
    assert not attempts.make(lambda attempt: attempt.starts_over())


def test_without_time_for_another_attempt_the_last_one_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "left", lambda: 0.2)

    def work(_attempt: Attempt) -> None:
        raise Disturbed("public.t is held by idler", hint="")

    with pytest.raises(Disturbed, match="held by idler"):
        Attempts().make(work)


def test_it_gives_way_for_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 99.0, 51.0, 49.0])  # left at the beginning, and when it is asked
    monkeypatch.setattr(module, "left", lambda: next(moments))
    ways = Attempts().make(lambda attempt: [attempt.gives_way() for _ in range(3)])
    assert ways == [True, True, False]


def test_it_always_gives_way_where_time_has_no_limit() -> None:
    assert Attempts().make(lambda attempt: attempt.gives_way())
    with time_limit(60):
        assert Attempts().make(lambda attempt: attempt.gives_way())

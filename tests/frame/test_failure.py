from __future__ import annotations

import pickle

import pytest

from frame.failure import MEANINGS, ExitCode, Failure, WrongUse


@pytest.mark.parametrize("kind", [Failure, WrongUse])
def test_a_failure_carries_its_facts_also_to_another_process(kind: type[Failure]) -> None:
    failure = kind("no such table", "Name another.")
    there = pickle.loads(pickle.dumps(failure))  # noqa: S301 - our own
    assert (type(there), there.message, there.hint) == (kind, "no such table", "Name another.")
    assert there.exit_code == failure.exit_code
    assert str(there) == "no such table\nHINT: Name another."


def test_every_exit_code_has_a_meaning_of_its_own() -> None:
    assert set(MEANINGS) == set(ExitCode)
    assert len(set(MEANINGS.values())) == len(ExitCode)

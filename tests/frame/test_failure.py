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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:hush@h:5432/d is not set", "postgresql://u:***@h:5432/d is not set"),
        ("file postgresql:/u:hush@h/d", "file postgresql:/u:***@h/d"),  # as a path shows it
        ("'postgres://u:hu/s@h:@h/d?x=1'", "'postgres://u:***@h/d?x=1'"),
        ("host=h password=hush user=u", "host=h password=*** user=u"),
        ("postgresql://h/d?password=hush&user=u", "postgresql://h/d?password=***&user=u"),
        ("ssh://git@172.17.0.1:15022/x", "ssh://git@172.17.0.1:15022/x"),
        ("Vault at http://127.0.0.1:8200 is away", "Vault at http://127.0.0.1:8200 is away"),
    ],
)
def test_no_message_holds_a_password(text: str, shown: str) -> None:
    failure = Failure(text, "Put the URI elsewhere.")
    assert (failure.message, failure.args[0]) == (shown, shown)


def test_an_exit_code_of_its_own_travels_too() -> None:
    there = pickle.loads(pickle.dumps(Failure("a", "B.", ExitCode.UNKNOWN)))  # noqa: S301
    assert there.exit_code == ExitCode.UNKNOWN
    assert Failure.exit_code == ExitCode.FAILED


def test_every_exit_code_has_a_meaning_of_its_own() -> None:
    assert set(MEANINGS) == set(ExitCode)
    assert len(set(MEANINGS.values())) == len(ExitCode)

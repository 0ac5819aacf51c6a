from __future__ import annotations

from time import sleep

import pytest

from scripts.console import OperatorError, command, step


def fail(message: str, hint: str = "Do this.") -> None:
    def main() -> None:
        raise OperatorError(message, hint)

    command(main)


def test_a_command_that_is_done_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda: None)
    assert capsys.readouterr() == ("", "")


def test_an_error_is_told_once_with_its_hint_and_ends_with_1(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        fail("the disk is full", "Free some.")
    assert ended.value.code == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: the disk is full\nHINT: Free some.\n"


@pytest.mark.parametrize(
    "text",
    [
        "[/opt/venv/bin/python] is missing",
        "known_hosts: [172.17.0.1]:15022",
        "[bold]not bold",
        "port [default] of [red]",
        "a\\[b]",
    ],
)
def test_other_programs_words_are_told_as_they_are(
    capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """Square brackets are markup to rich: a path in them would end the command with a traceback."""
    with pytest.raises(SystemExit) as ended:
        fail(text, text)
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {text}\nHINT: {text}\n"


def test_an_interrupted_command_ends_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        command(main)
    assert ended.value.code == 130
    assert "HINT: Run the same command again" in capsys.readouterr().err


def test_a_fault_of_the_program_itself_is_not_hidden() -> None:
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command(main)


def test_a_step_tells_that_it_starts_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with step("build"):
        assert capsys.readouterr().err == "… build\n"
    assert capsys.readouterr().err == "✓ build (0 s)\n"
    with pytest.raises(ZeroDivisionError), step("build"):
        raise ZeroDivisionError
    assert "✗ build (0 s)" in capsys.readouterr().err


def test_a_long_step_says_what_it_waits_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scripts.console.STILL", 0.05)
    with step("deploy") as progress:
        progress.say("redis is 0/1 healthy: [Errno 98]")
        sleep(0.2)
    still = [line for line in capsys.readouterr().err.splitlines() if "still:" in line]
    assert "… still: deploy (0 s): redis is 0/1 healthy: [Errno 98]" in still

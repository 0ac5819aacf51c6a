from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from scripts import shell

if TYPE_CHECKING:
    from pathlib import Path


def test_the_output_is_returned_and_both_streams_are_kept(home: Path) -> None:
    assert shell.run("one", ["sh", "-c", "echo out; echo err >&2"]) == "out\n"
    assert (home / "logs/one.log").read_text() == "out\nerr\n"


def test_an_absent_program_is_named() -> None:
    with pytest.raises(Failure, match=r"^no-such-program is not installed\n") as caught:
        shell.run("one", ["no-such-program", "--version"])
    assert "Install no-such-program" in caught.value.hint


def test_a_failure_tells_its_code_its_last_words_and_where_the_rest_is(home: Path) -> None:
    lines = "; ".join(f"echo line {n} >&2" for n in range(20))
    with pytest.raises(Failure) as caught:
        shell.run("one", ["sh", "-c", f"echo fine; {lines}; exit 3"])
    message = caught.value.message
    assert message.startswith("one ended with exit code 3:\n")
    assert message.endswith("line 19")
    assert "line 7\n" not in message
    assert "fine" not in message
    assert str(home / "logs/one.log") in caught.value.hint
    assert "line 0\n" in (home / "logs/one.log").read_text()


def test_a_failure_without_errors_tells_its_output() -> None:
    with pytest.raises(Failure, match="only this"):
        shell.run("one", ["sh", "-c", "echo only this; exit 1"])


def test_it_is_bounded() -> None:
    started = time.monotonic()
    with pytest.raises(Failure, match="one did not end within 1 s"):
        shell.run("one", ["sleep", "60"], timeout=1)
    assert time.monotonic() - started < 10


def test_what_was_said_before_the_time_was_up_is_in_the_log(home: Path) -> None:
    with pytest.raises(Failure) as caught:
        shell.run("one", ["sh", "-c", "echo resolving; exec sleep 60"], timeout=1)
    assert str(home / "logs/one.log") in caught.value.hint
    assert "resolving" in (home / "logs/one.log").read_text()


def test_it_asks_nothing_of_the_terminal() -> None:
    assert shell.run("one", ["cat"], timeout=10) == ""


def test_words_are_words_and_never_a_shells(tmp_path: Path) -> None:
    assert shell.run("one", ["echo", "$HOME; rm -rf *"], cwd=tmp_path) == "$HOME; rm -rf *\n"


def test_the_environment_is_added_to_and_nothing_reports_home() -> None:
    output = shell.run("one", ["env"], environment={"A_WORD": "here"})
    assert "A_WORD=here\n" in output
    assert "GOTELEMETRY=off\n" in output
    assert "PATH=" in output


def test_bytes_that_are_no_text_do_not_stop_it() -> None:
    assert "\ufffd" in shell.run("one", ["printf", "\\377"])

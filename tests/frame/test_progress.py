from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from frame import progress as shown
from frame.progress import progress, step

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_step_says_that_it_starts_and_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with step("build"):
        assert capsys.readouterr().err == "… build\n"
    assert capsys.readouterr().err == "✓ build (0 s)\n"
    with pytest.raises(ZeroDivisionError), step("build"):
        raise ZeroDivisionError
    assert "✗ build (0 s)" in capsys.readouterr().err


@pytest.mark.parametrize("title", ["[/opt/venv] is built", "port [default] of [red]"])
def test_a_title_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], title: str) -> None:
    with step(title):
        pass
    assert capsys.readouterr().err == f"… {title}\n✓ {title} (0 s)\n"


def test_a_long_step_says_that_it_goes_on_and_for_what(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "STILL", 0.05)
    with step("wait") as note:
        note("redis is pending")
        time.sleep(0.3)
    said = capsys.readouterr().err
    assert "… still: wait (0 s)\n  redis is pending\n" in said


def test_progress_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as advance:
        moved: Callable[[str, int], None] = advance
        moved("public.staff", 5)
    assert capsys.readouterr() == ("", "")

"""What a command says: results to standard output, the rest to standard error; JSON if asked."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console
    from rich.table import Table

    from frame.failure import Failure


_JSON = "--json"
AsJson = Annotated[bool, typer.Option(_JSON, help="Print the result, errors and log as JSON.")]
# But for the two that lay text out, control characters steer a terminal: they are shown as escapes.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
# In JSON those below 0x20 are escapes already.
_JSON_CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}


class _Wanted:
    """Whether this command's ``--json`` was given."""

    json = False


def prepare(words: Sequence[str]) -> None:
    """Look whether the words of a command line ask for JSON, before they are parsed.

    So errors of the words themselves are JSON, too.
    """
    options = words[: words.index("--")] if "--" in words else words
    _Wanted.json = _JSON in options


def wants_json() -> bool:
    """Return whether everything is to be said as JSON."""
    return _Wanted.json


def people_watch() -> bool:
    """Return whether standard error is a terminal on which progress may be drawn."""
    return sys.stderr.isatty() and not _Wanted.json


def colours() -> bool:
    """Return whether standard error shows colours, and they are wanted (no-color.org)."""
    return (
        sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def print_json(value: object) -> None:
    """Print ``value`` for programs."""
    print_json_text(json.dumps(value, indent=2, ensure_ascii=False))


def print_json_text(text: str) -> None:
    """Print JSON that is written already: what steers a terminal in its strings, by its number."""
    typer.echo(text.translate(_JSON_CONTROLS))


def print_failure(failure: Failure) -> None:
    """Say what went wrong and how to go on: the same text on a terminal and in a pipe.

    Where standard error takes nothing, the exit code has to do.
    """
    with suppress(OSError):
        _print_failure(failure)


def _print_failure(failure: Failure) -> None:
    if _Wanted.json:
        facts = {
            "error": failure.message, "hint": failure.hint, "exit_code": int(failure.exit_code)
        }  # fmt: skip
        typer.echo(json.dumps(facts, ensure_ascii=False), err=True)
        return
    for label, colour, text in (
        ("error:", "red", failure.message),
        ("HINT:", "yellow", failure.hint),
    ):
        styled = f"{typer.style(label, fg=colour)} {text.translate(_CONTROLS)}"
        typer.echo(styled, err=True, color=colours())


def table(*headings: str) -> Table:
    """Return an empty table with the look of the house; ``>`` before a heading: numbers, right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    class Rows(Table):
        def add_row(self, *cells: Any, **how: Any) -> None:
            shown = (each.translate(_CONTROLS) if isinstance(each, str) else each for each in cells)
            super().add_row(*shown, **how)  # here, so that the columns are as wide

    empty = Rows(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in headings:
        right = heading.startswith(">")
        empty.add_column(heading.removeprefix(">"), justify="right" if right else "left")
    return empty


def screen(*, stderr: bool = False) -> Console:
    """Return a console that adds nothing of its own: no colours of numbers, no emoji, no folds.

    What steers a terminal in what is printed, such as a table's name, is shown and does nothing.
    """
    from rich.console import Console
    from rich.segment import Segment

    class Screen(Console):
        def render(self, *what: Any, **how: Any) -> Iterator[Segment]:
            for text, style, control in super().render(*what, **how):
                yield Segment(text if control else text.translate(_CONTROLS), style, control)

    return Screen(stderr=stderr, highlight=False, soft_wrap=stderr, emoji=False)

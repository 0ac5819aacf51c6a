"""What a command says: results to standard output, the rest to standard error; JSON if asked."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from frame.failure import Failure


class _Wanted:
    """Whether this command's ``--json`` was given."""

    json = False


def _want_json(given: bool) -> bool:
    _Wanted.json = given
    return given


AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print the result, errors and log as JSON.", callback=_want_json),
]


def reset() -> None:
    """Forget what an earlier command of this process was asked for."""
    _Wanted.json = False


def wants_json() -> bool:
    """Return whether everything is to be said as JSON."""
    return _Wanted.json


def people_watch() -> bool:
    """Return whether standard error is a terminal on which progress may be drawn."""
    return sys.stderr.isatty() and not _Wanted.json


def print_json(value: object) -> None:
    """Print ``value`` for programs."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_failure(failure: Failure) -> None:
    """Say what went wrong and how to go on: the same text on a terminal and in a pipe."""
    if _Wanted.json:
        facts = {
            "error": failure.message, "hint": failure.hint, "exit_code": int(failure.exit_code)
        }  # fmt: skip
        typer.echo(json.dumps(facts, ensure_ascii=False), err=True)
        return
    typer.echo(f"{typer.style('error:', fg='red')} {failure.message}", err=True)
    typer.echo(f"{typer.style('HINT:', fg='yellow')} {failure.hint}", err=True)


def table(*headings: str) -> Table:
    """Return an empty table with the look of the house; ``>`` before a heading: numbers, right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    empty = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        right = heading.startswith(">")
        empty.add_column(heading.removeprefix(">"), justify="right" if right else "left")
    return empty


def screen(*, stderr: bool = False) -> Console:
    """Return a console that adds nothing of its own: no colours of numbers, no emoji, no folds."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=stderr, emoji=False)

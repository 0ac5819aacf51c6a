"""How a command ends: what it prints, and with which exit code."""

from __future__ import annotations

import functools
import os
import sys
import threading
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import structlog
import typer
from rich.console import Console
from rich.progress import (
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from backup.deadline import Stopped, stopped_by_signals
from backup.errors import BackupError
from backup.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Run ``function`` as a command: logs set up, signals caught, errors told with their hint."""

    @functools.wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        configure_logs()
        try:
            with stopped_by_signals():
                return function(*args, **kwargs)
        except BackupError as error:
            _tell(error.message, error.hint)
            code = error.exit_code
        except Stopped as stopped:
            _tell(str(stopped), "Look at the log for what it was doing, then run it again.")
            code = 1
        raise typer.Exit(code)

    return told


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None]]:
    """Show bytes as they get there, where somebody looks; yield what is told of each part."""
    if not sys.stderr.isatty():
        yield lambda _size: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda size: bars.advance(task, size)


def _tell(message: str, hint: str) -> None:
    if sys.stderr.isatty():
        typer.echo(f"backup: {message}\nHINT: {hint}", err=True)
    else:
        log.error(message, hint=hint)


class App(typer.Typer):
    """The command line, which ends even while threads of b2sdk still retry in vain.

    Their retries can last for hours on a dead network, and Python would wait for them.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and end the process."""
        code = 0
        try:
            super().__call__(*args, prog_name="backup", **kwargs)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception:  # a fault of ours
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        if code and threading.active_count() > 1:
            os._exit(code)
        sys.exit(code)

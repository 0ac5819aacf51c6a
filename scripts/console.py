"""What the operators' commands say: steps with their times, errors with a way out."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STILL = 30.0  # seconds after which a long step is said to go on
console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class OperatorError(Exception):
    """A step that cannot go on; ``hint`` is the way out, a full sentence."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Progress:
    """What a step that goes on waits for just now."""

    def __init__(self) -> None:
        self.text = ""

    def say(self, text: str) -> None:
        """Have ``text`` said where the step is next said to go on."""
        self.text = text


@contextmanager
def step(title: str) -> Iterator[Progress]:
    """Say that ``title`` starts, every half minute that it goes on, and how long it took."""
    progress = Progress()
    console.print(f"[cyan]…[/] {title}")
    started = time.monotonic()
    ended = Event()

    def say(mark: str, more: str = "") -> None:
        console.print(f"{mark} {title} [dim]({time.monotonic() - started:.0f} s)[/]{more}")

    def watch() -> None:
        while not ended.wait(STILL):
            say("[cyan]…[/] still:", f": {escape(progress.text)}" if progress.text else "")

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    mark = "[red]✗[/]"
    try:
        yield progress
        mark = "[green]✓[/]"
    finally:
        ended.set()
        watcher.join()
        say(mark)


def command(main: Callable[[], None]) -> None:
    """Run a command's ``main``: exit 0 when done, 1 with one clear error when it failed."""
    try:
        main()
    except OperatorError as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        console.print(f"[yellow]HINT:[/] {escape(error.hint)}")
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("[red]error:[/] interrupted")
        console.print("[yellow]HINT:[/] Run the same command again: every step can be repeated.")
        sys.exit(130)

"""Long work, shown: bytes as they pass on a terminal, steps with their times everywhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from frame.output import people_watch, screen, wants_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STILL = 30.0  # seconds after which a long step is said to go on


@contextmanager
def progress() -> Iterator[Callable[[str, int], None]]:
    """Draw a line for each thing that moves, if somebody watches.

    Yields what takes a thing's name and the bytes that it moved since the last call.
    """
    if not people_watch():
        yield lambda _name, _size: None
        return
    from rich.progress import (
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=screen(stderr=True), transient=True) as bars:
        tasks = {}

        def advance(name: str, size: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=None)
            bars.advance(tasks[name], size)

        yield advance


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Say that ``title`` starts, every half minute that it goes on, and how long it took.

    Yields what takes a few words about what is waited for just now. Nothing is said where
    everything is to be JSON.
    """
    if wants_json():
        yield lambda _words: None
        return
    console = screen(stderr=True)
    console.print(f"… {title}", style="cyan", markup=False)
    started = time.monotonic()
    ended = Event()
    waited_for = ""

    def note(words: str) -> None:
        nonlocal waited_for
        waited_for = words

    def say(mark: str, style: str, words: str = "") -> None:
        console.print(mark, style=style, end=" ")
        console.print(f"{words}{title} ({time.monotonic() - started:.0f} s)", markup=False)

    def watch() -> None:
        while not ended.wait(STILL):
            say("…", "cyan", "still: ")
            if waited_for:
                console.print(f"  {waited_for}", markup=False)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    mark, style = "✗", "red"
    try:
        yield note
        mark, style = "✓", "green"
    finally:
        ended.set()
        watcher.join()
        say(mark, style)

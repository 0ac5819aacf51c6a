"""Tables and progress for people at a terminal."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from ingest.plan import TablePlan
    from ingest.run import Loaded


def loaded(tables: Sequence[Loaded]) -> None:
    """Print what a run published: a table, or where no person looks, a line each with tabs."""
    rows = [
        (each.table, each.load, f"{each.rows:,}", _changed(each), f"{each.seconds:.1f} s")
        for each in tables
    ]
    if not sys.stdout.isatty():  # importing rich takes a tenth of a second
        print(*("\t".join(row) for row in rows), sep="\n")
        return
    table = _table("table", "load", ">rows", "changed", ">time")
    for row in rows:
        table.add_row(*row)
    _print(table)


def plans(tables: Sequence[TablePlan]) -> None:
    """Print what a run would do with each table, why, and what it would not see."""
    from rich.filesize import decimal

    table = _table("table", "load", "because", ">about", "format", "not seen")
    for each in tables:
        because = [each.reason, *(change for change in each.changes if change not in each.reason)]
        rows = f"{each.rows:,} rows\n" if each.rows >= 0 else ""
        table.add_row(
            str(each),
            each.action,
            "\n".join(because),
            f"{rows}{decimal(each.bytes)}",
            "binary" if each.binary else f"text: {each.why_text}",
            "\n".join(f"- {line}" for line in each.unseen()) or "-",
        )
    _print(table)


@contextmanager
def progress(*, shown: bool) -> Iterator[Callable[[str, int], None]]:
    """Show bytes as they come, by table; yield what takes a table and a number of bytes."""
    if not shown:
        yield lambda _table, _bytes: None
        return
    from rich.console import Console
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
        TextColumn("{task.description}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def advance(table: str, size: int) -> None:
            if table not in tasks:
                tasks[table] = bars.add_task(table, total=None)
            bars.advance(tasks[table], size)

        yield advance


def _changed(one: Loaded) -> str:
    parts = {"+": one.inserted, "~": one.updated, "-": one.deleted}
    return " ".join(f"{sign}{count:,}" for sign, count in parts.items() if count) or "none"


def _table(*headings: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(heading.removeprefix(">"), justify="right" if right else "left")
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)

"""Tables for people at a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from frame.output import screen, table
from ingest.shapes import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.kept import Removed
    from ingest.plan import TablePlan
    from ingest.release import Loaded
    from ingest.shapes import Relation
    from ingest.status import Run, Table
    from ingest.trial import Sample


_NARROWEST = 10  # characters of a value in a table of a sample


def loaded(tables: Sequence[Loaded]) -> None:
    """Print what a run published: a table, or where no person looks, a line each with tabs."""
    rows = [
        (each.table, each.load, f"{each.rows:,}", _changed(each), f"{each.seconds:.1f} s")
        for each in tables
    ]
    if not sys.stdout.isatty():  # importing rich takes a tenth of a second
        print(*("\t".join(row) for row in rows), sep="\n")
        return
    shown = table("table", "load", ">rows", "changed", ">time")
    for row in rows:
        shown.add_row(*row)
    screen().print(shown)


def plans(tables: Sequence[TablePlan], left_out: Sequence[Relation]) -> None:
    """Print what a run would do with each table, why, and what it would not see.

    ``left_out`` is what a pattern leaves out, as it is no table.
    """
    from rich.filesize import decimal

    shown = table("table", "load", "because", ">about", "format", "not seen")
    for each in tables:
        because = [each.read.reason]
        because += [line for line in each.changes.describe() if line not in each.read.reason]
        source, why_text = each.source, each.read.why_text
        rows = f"{source.rows:,} rows\n" if source.rows >= 0 else ""
        shown.add_row(
            str(each),
            each.read.load,
            "\n".join(because),
            f"{rows}{decimal(source.bytes)}",
            f"text: {why_text}" if why_text else "binary",
            "\n".join(f"- {line}" for line in each.read.unseen) or "-",
        )
    screen().print(shown)
    if left_out:
        print(f"a pattern means tables, which leaves out {listed(left_out)}: name what is to load")


def status(pipeline: str, run: Run | None, tables: Sequence[Table]) -> None:
    """Print how the last run of ``pipeline`` went, and how each table stands."""
    if run is None:
        print(f"pipeline {pipeline} has not run yet")
    else:
        ended = "" if run.finished_at is None else f", ended {run.finished_at:%Y-%m-%d %H:%M} UTC"
        print(f"{run.run_id}: {run.status}, began {run.started_at:%Y-%m-%d %H:%M} UTC{ended}")
        if run.error:
            print(f"in {run.step}: {run.error}\nHINT: {run.hint}")
    if not tables:
        return
    shown = table("table", ">rows", "published (UTC)", "cursor", "last run")
    for each in tables:
        at = "" if each.published_at is None else f"{each.published_at:%Y-%m-%d %H:%M}"
        last = (each.last or "") + (", waits for ingest publish" if each.waiting else "")
        if each.last == "failed" and each.error:
            last += f": {each.error}"
        rows = "" if each.rows is None else f"{each.rows:,}"
        shown.add_row(each.table, rows, at, each.cursor_value or "", last)
    screen().print(shown)


def removed(tables: Sequence[Removed]) -> None:
    """Print what was removed from staging, a line each."""
    for each in tables:
        rows = "" if each.rows is None else f", {each.rows:,} rows"
        print(f"{each.table}: removed from staging{rows}, of {each.since:%Y-%m-%d}: {each.reason}")
    if not tables:
        print("nothing was left over in staging")


def samples(tables: Sequence[Sample], unasked: Sequence[str]) -> None:
    """Print what a sample looks like, a line a column, with the first rows beside each other."""
    from rich.text import Text

    console = screen()
    for each in tables:
        kinds = {c.name: f"{c.type}, hashed" if c.hashed else c.type for c in each.columns}
        kinds |= dict.fromkeys(each.left_out, "left out")
        room = console.width - max(map(len, kinds)) - max(map(len, kinds.values()))
        first = max((len(column.first) for column in each.columns), default=0)
        first = min(first, max(1, room // (_NARROWEST + 2)))
        shown = table("column", "type", *(f"row {number + 1}" for number in range(first)))
        values = {column.name: column.first[:first] for column in each.columns}
        for name, kind in kinds.items():
            cells = values.get(name, ("",) * first)
            said = ("NULL" if cell is None else cell for cell in cells)
            shown.add_row(name, kind, *map(Text, said))  # which may hold what rich takes for style
        for heading in shown.columns[2:]:
            heading.no_wrap, heading.overflow = True, "ellipsis"
            heading.max_width = max(_NARROWEST, room // first - 3)
        console.print(f"\n{each.table}: {each.rows:,} rows", markup=False)
        console.print(shown)
    if unasked:
        console.print(f"\nnot asked of a sample: {', '.join(unasked)}", markup=False)


def _changed(one: Loaded) -> str:
    parts = {"+": one.inserted, "~": one.updated, "-": one.deleted}
    return " ".join(f"{sign}{count:,}" for sign, count in parts.items() if count) or "none"

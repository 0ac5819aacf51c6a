"""The command line: ``python -m standins.school``."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import load as loading
from . import mutate as mutating
from .errors import OccupiedError, SchoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILED, WRONG_USE, OCCUPIED = 1, 2, 3
_VARIABLE = "SCHOOL_URI"
# A server that is up answers in well under a second.
_CONNECT_SECONDS = 10

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Generate the source databases of a Ghanaian school: hr, records and service_desk.\n\n"
    "The same scale and seed give the same bytes, on any day and machine. Each database of the "
    "school goes into a PostgreSQL 15 database of its own, whose connection URI is in the "
    "environment variable SCHOOL_URI, and never an argument, which everybody on the machine could "
    "read.\n\n\b\n"
    "  export SCHOOL_URI=postgresql://hr_owner@127.0.0.1/hr\n"
    "  python -m standins.school load --database hr\n"
    "  python -m standins.school mutate --database hr --seed 1\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 the database holds something else.",
)


class Database(StrEnum):
    """A database of the school."""

    HR = "hr"
    RECORDS = "records"
    SERVICE_DESK = "service_desk"


Which = Annotated[Database, typer.Option(help="Which of the school's databases.")]


@app.command()
def load(
    *,
    database: Which,
    scale: Annotated[
        float,
        typer.Option(
            help="Size of the school. 1.0 has 200 employees, 2,000 students and 8,000 tickets: "
            "about 130,000 rows in all three databases. 0.01 is for small tests."
        ),
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Another seed makes another school.")] = 7,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Drop a school of another scale, seed or edition first, with all that is in "
            "schema public. What is not a school is never dropped.",
        ),
    ] = False,
) -> None:
    """Load one database into an empty PostgreSQL database, in one transaction.

    Can be repeated: a database that holds the same scale and seed is left as it is, with whatever
    changed in it since. One that holds another school, or the same from an older edition of this
    generator, is refused unless --replace is given.
    """
    console, started = Console(stderr=True), time.monotonic()
    with _errors(), _connected() as connection, _bars(console) as progress:
        expected = {table.name: table.about(scale) for table in loading.TABLES.get(database, ())
                    if scale > 0}  # fmt: skip
        bars: dict[str, Any] = {}

        def show(table: str, rows: int) -> None:
            if table not in bars:
                bars[table] = progress.add_task(table, total=expected[table])
            progress.update(bars[table], completed=rows)

        done = loading.load(connection, database.value, scale, seed, replace=replace, progress=show)
        for table, rows in done.rows.items():
            progress.update(bars[table], total=rows, completed=rows)
    if done.already_there:
        console.print(
            f"nothing to do: the database holds {done.mark} already",
            highlight=False,
            soft_wrap=True,
        )
        return
    total, seconds = sum(done.rows.values()), time.monotonic() - started
    console.print(
        f"loaded {done.mark}: {total:,} rows in {seconds:.1f} s", highlight=False, soft_wrap=True
    )


@app.command()
def mutate(
    *,
    database: Which,
    seed: Annotated[int, typer.Option(help="Another seed makes another day.")] = 1,
) -> None:
    """Make the next school day's changes in a loaded database, in one transaction.

    Rows inserted and updated get an updated_at of that day; rows deleted leave no trace. Each call
    makes the day after the last one.
    """
    console = Console(stderr=True)
    with _errors(), _connected() as connection:
        changes = mutating.mutate(connection, database.value, seed)
    for table, done in changes.items():
        console.print(
            f"{table}: {done.inserted} inserted, {done.updated} updated, {done.deleted} deleted",
            highlight=False,
        )


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


@contextmanager
def _connected() -> Iterator[psycopg.Connection[Any]]:
    uri = os.environ.get(_VARIABLE, "")
    if not uri:
        raise typer.BadParameter(
            f"expected a connection URI in the environment variable {_VARIABLE}, found nothing; "
            f"set it to postgresql://ROLE@HOST/DATABASE, the role being the database's owner"
        )
    try:
        connection = psycopg.connect(uri, connect_timeout=_CONNECT_SECONDS)
    except psycopg.ProgrammingError:
        # libpq quotes what it cannot read, and the password would be in it.
        raise typer.BadParameter(f"what {_VARIABLE} holds is no connection URI") from None
    with connection:
        yield connection


@contextmanager
def _errors() -> Iterator[None]:
    """Turn our errors into one message and an exit code."""
    try:
        yield
    except (SchoolError, psycopg.Error) as error:
        print(f"error: {str(error).strip()}", file=sys.stderr)
        raise typer.Exit(OCCUPIED if isinstance(error, OccupiedError) else FAILED) from error


if __name__ == "__main__":
    app(prog_name="python -m standins.school")

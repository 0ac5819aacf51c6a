"""``ingest try``: a sample of a source in a database at a desk, and what it looks like there.

A try is a pipeline of its own name, ``try_<file>``: what it published is no run's to go on from,
and where runs of the file publish, a try is refused, as any second pipeline is.
"""

from __future__ import annotations

import os
import secrets
import uuid
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, LiteralString

import typer
from psycopg import sql

from frame.failure import Failure
from frame.output import AsJson, print_json
from frame.progress import progress
from ingest import connections, contract, desk, display, run
from ingest.connections import Entry
from ingest.drift import SHAPE
from ingest.job import Job, Scope
from ingest.ownership import TRIES
from ingest.report import Report
from ingest.rules import Rows
from ingest.words import PipelineFile, SomeTables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psycopg

    from ingest.contract import Pipeline
    from ingest.drift import Shape
    from ingest.release import Loaded

FIRST = 5
"""How many rows of a table are shown."""
WIDEST = 60
"""Characters of a value that is shown."""
_SHAPE: LiteralString = """
    SELECT h.shape FROM ops.state s JOIN ops.shapes h USING ("table", version)
    WHERE s."table" = %s
"""


@dataclass(frozen=True)
class Column:
    """A column as it landed: its type, whether it is hashed, and its values in the first rows."""

    name: str
    type: str
    hashed: bool
    first: tuple[str | None, ...]


@dataclass(frozen=True)
class Sample:
    """A table as it landed; ``left_out`` are columns of the source that did not come."""

    table: str
    rows: int
    columns: tuple[Column, ...]
    left_out: tuple[str, ...]


def try_file(
    file: PipelineFile,
    rows: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Rows of a table that are read at most.")
    ] = 1000,
    table: SomeTables = None,
    as_json: AsJson = False,
) -> None:
    """Load a sample of each table at your desk, and show it.

    It goes to AIRFLOW_CONN_WAREHOUSE, a database of your own, or without that to a PostgreSQL
    server that is made in .try for as long as it takes. Checks of single rows are asked. The source
    is read, and nothing there is changed.
    """
    pipeline, unasked = of_a_sample(contract.read(file))
    report = Report(f"{TRIES}{file.stem}", f"try__{uuid.uuid4()}")
    error: Failure | None = None
    with warehouse(pipeline, Path(".try")) as resolve:
        job = Job(pipeline, report.pipeline, report.run_id, resolve)
        try:
            with progress() as advance:
                scope = Scope(tuple(table or ()), full_refresh=True, progress=advance, rows=rows)
                run.run(job, scope, report=report)
        except Failure as failure:
            error = failure
        with closing(job.connect()) as connection:
            samples = look(connection, report.loaded)
    if as_json:
        print_json({"tables": [asdict(each) for each in samples], "not_asked": unasked})
    else:
        display.samples(samples, unasked)
    if error is not None:
        raise error


def of_a_sample(pipeline: Pipeline) -> tuple[Pipeline, list[str]]:
    """Return the pipeline without the checks that speak of all rows, and the names of those.

    How many rows there are, how new the newest is, and what a query of the file's own counts: of a
    sample all of that would mislead.
    """
    rules, names = [], set()
    for rule in pipeline.tables:
        asked = rule.checks
        names |= {"rows"} if asked.rows != Rows() else set()
        names |= {"freshness"} if asked.freshness else set()
        names |= {f"sql {name}" for name in asked.sql}
        left = asked.model_copy(update={"rows": Rows(), "freshness": None, "sql": {}})
        rules.append(rule.model_copy(update={"checks": left}))
    return pipeline.model_copy(update={"tables": tuple(rules)}), sorted(names)


@contextmanager
def warehouse(pipeline: Pipeline, home: Path) -> Iterator[Callable[[str], Entry]]:
    """Yield what resolves connections: the environment's, and for a desk what is not there.

    Without the warehouse's connection it is a server of our own in ``home``; without the key for
    hashed columns it is one for this time. Raises Failure.
    """

    def resolve(name: str, own: str = "") -> Entry:
        there = os.environ.get(f"AIRFLOW_CONN_{name.upper()}", "").strip()
        if own and name == pipeline.warehouse:
            return Entry(name, "postgresql", own)
        if name == pipeline.hash_key and not there:
            return Entry(name, "generic", parts={"password": key})
        return connections.from_environment(name)

    key = secrets.token_hex(32)
    connections.postgres(resolve(pipeline.source))  # better missed before a server is made
    if os.environ.get(f"AIRFLOW_CONN_{pipeline.warehouse.upper()}", "").strip():
        yield resolve
    else:
        with desk.server(home) as conninfo:
            yield lambda name: resolve(name, conninfo)


def look(connection: psycopg.Connection[Any], loaded: Sequence[Loaded]) -> list[Sample]:
    """Return what landed. Raises psycopg.Error."""
    found = []
    for each in loaded:
        ((value,),) = connection.execute(_SHAPE, [each.table]).fetchall()
        shape: Shape = SHAPE.validate_python(value)
        rows = connection.execute(_first(each.table, shape)).fetchall()
        columns = tuple(
            Column(column.name, column.lands, bool(column.hashed), tuple(row[at] for row in rows))
            for at, column in enumerate(shape.columns)
        )
        landed = {column.name for column in columns}
        left_out = tuple(w.name for w in shape.withheld if w.name not in landed)
        found.append(Sample(each.table, each.rows, columns, left_out))
    return found


def _first(table: str, shape: Shape) -> sql.Composed:
    values = [
        sql.SQL("left({}::text, {})").format(sql.Identifier(column.name), sql.Literal(WIDEST))
        for column in shape.columns
    ]
    # The engine's own display of the name is what SQL takes.
    return sql.SQL("SELECT {} FROM {} LIMIT {}").format(
        sql.SQL(", ").join(values), sql.SQL(table), sql.Literal(FIRST)
    )

"""Runs a dlt source into the warehouse, or wherever DESTINATION_TYPE says (dlt's own variable).

Nothing is kept beside the warehouse: the working folder is a temporary one of each run, and where
the next run begins stands in the warehouse (`_dlt_pipeline_state`). So whatever a run did not
complete is done again by the next, on any worker (docs/decisions/0065).
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections import defaultdict
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dlt
from dlt.common.destination.exceptions import DestinationException
from dlt.common.schema.utils import get_nested_tables
from dlt.destinations import postgres as to_postgres
from dlt.destinations.impl.postgres.configuration import PostgresCredentials
from dlt.pipeline.exceptions import PipelineStepFailed

from harmattan.load_errors import LoadError, from_dlt
from ingest.connections import postgres, warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dlt import Pipeline
    from dlt.extract.source import DltSource

    from ingest.connections import Address

log = logging.getLogger(__name__)

# A session of a worker that died ends within two seconds, whatever it waits for: otherwise it
# could complete, an hour later, a load that was done again since. Nothing waits longer for a lock.
_SESSION = "-cclient_connection_check_interval=2000 -clock_timeout=600000"  # milliseconds
_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('harmattan load ' || %s, 0))"


def load(source: DltSource, *, into: str, connection: str = "warehouse") -> dict[str, int]:
    """Load ``source`` into the schema ``into``; return the rows that came, by table.

    Dispositions, contracts and cursors are the source's own. ``connection`` is the id of the
    warehouse's connection. Raises LoadError, and Failure where the warehouse cannot be reached.
    """
    with _working_folder(source.name) as folder:
        if _at_a_desk():
            return _run(_pipeline(source, folder, into), source)
        from harmattan import connections  # and Airflow, which a desk with DuckDB does not wait for

        address = postgres(connections.resolve(connection))
        with _alone(address, f"{into}.{source.name}"):
            destination = to_postgres(_credentials(address), replace_strategy="insert-from-staging")
            return _run(_pipeline(source, folder, into, destination=destination), source)


def _at_a_desk() -> bool:
    return "DESTINATION_TYPE" in os.environ


def _pipeline(source: DltSource, folder: Path, into: str, **options: Any) -> Pipeline:
    return dlt.pipeline(source.name, pipelines_dir=str(folder), dataset_name=into, **options)


def _run(pipeline: Pipeline, source: DltSource) -> dict[str, int]:
    keys: defaultdict[str, set[str]] = defaultdict(set)
    for name, resource in source.selected_resources.items():
        resource.add_map(_noting(keys[name]))
    try:
        pipeline.sync_destination()
        _sweep(pipeline)
        pipeline.run(source)
    except (PipelineStepFailed, DestinationException) as error:
        # In a task without its cause, which repeats rows: its log shows all that an error has.
        raise from_dlt(source.name, error) from (error if _at_a_desk() else None)
    counts = _counts(pipeline)
    for table, (came, loaded) in counts.items():
        log.info("table %s: %d rows loaded", table, loaded)
        if loaded < came:
            log.warning("table %s: %d rows discarded by its contract", table, came - loaded)
    for name, resource in source.selected_resources.items():
        into = resource.table_name
        if not isinstance(into, str):  # chosen row by row
            continue
        if unknown := sorted(_unknown(pipeline, into, keys[name])):
            log.warning("table %s: values of %s discarded", into, ", ".join(unknown))
    return {table: loaded for table, (_, loaded) in counts.items()}


def _noting(keys: set[str]) -> Any:
    def note(item: Any) -> Any:
        if isinstance(item, dict):
            keys.update(map(str, item))
        return item

    return note


def _counts(pipeline: Pipeline) -> Mapping[str, tuple[int, int]]:
    """Return how many rows of each table were extracted, and how many the contract let through."""
    trace = pipeline.last_trace
    if trace is None or trace.last_extract_info is None or trace.last_normalize_info is None:
        return {}
    loaded = trace.last_normalize_info.row_counts
    came: defaultdict[str, int] = defaultdict(int)
    for packages in trace.last_extract_info.metrics.values():
        for package in packages:
            for table, found in package["table_metrics"].items():
                came[table] += found.items_count
    tables = {*came, *loaded}
    return {
        table: (came.get(table, 0), loaded.get(table, 0))
        for table in sorted(tables)
        if not table.startswith("_dlt_")
    }


def _unknown(pipeline: Pipeline, table: str, keys: set[str]) -> Iterator[str]:
    """Yield those of a resource's keys that came to no column and to no table of their own."""
    schema = pipeline.default_schema
    columns = (
        schema.get_table_columns(table, include_incomplete=True) if table in schema.tables else ()
    )
    for key in keys:
        name = schema.naming.normalize_identifier(key)
        below = f"{name}__"
        if (
            name not in columns
            and not any(column.startswith(below) for column in columns)
            and f"{table}__{name}" not in schema.tables
        ):
            yield key


def _sweep(pipeline: Pipeline) -> None:
    """Delete appended rows of loads that never completed: the next run reads them again.

    A merge or a replacement made twice ends as if it had been made once; an append does not.
    """
    if not pipeline.default_schema_name:  # the first run
        return
    schema = pipeline.default_schema
    loads = schema.loads_table_name
    with pipeline.sql_client() as client:
        for root in schema.data_tables(seen_data_only=True):
            if root.get("parent") or root.get("write_disposition") != "append":
                continue
            for table in get_nested_tables(schema.tables, root["name"]):
                parent = table.get("parent")
                own, key = ("_dlt_parent_id", "_dlt_id") if parent else ("_dlt_load_id", "load_id")
                swept, other = map(
                    client.make_qualified_table_name, (table["name"], parent or loads)
                )
                client.execute_sql(
                    f"DELETE FROM {swept} WHERE {own} NOT IN (SELECT {key} FROM {other})"  # noqa: S608 - dlt quotes the names
                )


@contextmanager
def _alone(address: Address, name: str) -> Iterator[None]:
    """Hold the lock of a load for as long as the block. Raises LoadError if another run has it."""
    with closing(warehouse(address, purpose=f"harmattan load {name}")) as session:
        if session.execute(_LOCK, (name,)).fetchone() != (True,):
            raise LoadError(
                f"load {name}: expected to be alone, found another run of it",
                "Wait for it to end; one that was killed is gone from the warehouse in a moment.",
            )
        yield


def _credentials(address: Address) -> PostgresCredentials:
    """Return what dlt connects by: in memory, and nowhere that a process or a file shows."""
    query = {name: str(value) for name, value in address.parameters.items()}
    parts = {
        "host": query.pop("host", None),
        "port": int(query.pop("port", 5432)),
        "username": query.pop("user", None),
        "password": query.pop("password", None),
        "database": query.pop("dbname", None),
    }
    options = f"{query.pop('options', '')} {_SESSION}".strip()
    return PostgresCredentials({**parts, "query": {**query, "options": options}})


@contextmanager
def _working_folder(name: str) -> Iterator[Path]:
    """Make a folder for the rows on their way, and remove those that killed runs left behind."""
    home = Path(tempfile.gettempdir())
    for old in home.glob(f"load-{name}-*"):
        with suppress(OSError), _locked(old):
            shutil.rmtree(old)
    with tempfile.TemporaryDirectory(prefix=f"load-{name}-") as made, _locked(Path(made)):
        yield Path(made)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the system lets go of it with the process. Raises OSError if it is locked."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)

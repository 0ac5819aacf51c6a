"""What a user of dlt writes: one table by its sql_database source. Runs in dlt's own venv.

python dlt_load.py TABLE DATASET BACKEND FILE_FORMAT CHUNK [KEY CURSOR]

TABLE of the schema public of $BENCH_SOURCE goes to DATASET of $BENCH_WAREHOUSE; with KEY and CURSOR
changed rows are merged, by an upsert. Workers and telemetry are set in the environment.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import dlt
from dlt.sources.sql_database import sql_table


def main(table: str, dataset: str, backend: Any, file_format: str, *more: str) -> None:
    """Load ``table`` once; FILE_FORMAT ``default`` leaves the choice to dlt."""
    chunk, merged = int(more[0]), more[1:]
    if merged:
        key, cursor = merged
        how: dict[str, Any] = {
            "primary_key": key,
            "write_disposition": {"disposition": "merge", "strategy": "upsert"},
            "incremental": dlt.sources.incremental(cursor),
        }
    else:
        how = {"write_disposition": "replace"}
    source = sql_table(
        credentials=os.environ["BENCH_SOURCE"],
        schema="public",
        table=table,
        backend=backend,
        chunk_size=chunk,
        # The stream of record batches; without it connectorx holds the whole table in memory.
        backend_kwargs={"return_type": "arrow_stream"} if backend == "connectorx" else {},
        reflection_level="full_with_precision",
        **how,
    )
    pipeline = dlt.pipeline(
        f"{dataset}_{table}",
        destination=dlt.destinations.postgres(os.environ["BENCH_WAREHOUSE"]),
        dataset_name=dataset,
    )
    chosen: dict[str, Any] = {} if file_format == "default" else {"loader_file_format": file_format}
    pipeline.run(source, **chosen).raise_on_failed_jobs()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Dynamic mapping: one task for each table that is there today, side by side, then a summary."""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import dag, task

TABLES = """
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = 'raw_service_desk' AND table_type = 'BASE TABLE' ORDER BY 1
"""


@dag(
    schedule="0 5 * * *",  # UTC
    catchup=False,
    tags=["example"],
    default_args={
        "owner": "it-analytics",
        "retries": 3,
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=10),
    },
)
def each_table() -> None:
    """Count the rows of every table of a source."""

    @task
    def tables() -> list[str]:
        rows = PostgresHook(postgres_conn_id="warehouse").get_records(TABLES)
        return [name for (name,) in rows]

    @task(max_active_tis_per_dag=2)  # what the warehouse is to bear at once
    def count(table: str) -> dict[str, int]:
        hook = PostgresHook(postgres_conn_id="warehouse")
        # Of your own catalogue's names: what somebody types goes in as a parameter.
        (rows,) = hook.get_first(f'SELECT count(*) FROM raw_service_desk."{table}"')
        return {table: rows}

    @task
    def summary(counts: list[dict[str, int]]) -> dict[str, int]:
        return {table: rows for each in counts for table, rows in each.items()}

    summary(count.expand(table=tables()))


each_table()

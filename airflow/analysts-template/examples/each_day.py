"""Backfill: a DAG whose every run is one day's, and that may be run again for any day.

Start one in Airflow: the DAG, *Trigger*, *Backfill*, with the days that you want. What makes it
work is that a run reads its own day from the schedule, never the clock, and that it replaces
what an earlier run of that day wrote.
"""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import CronDataIntervalTimetable, dag, task

CREATE = "CREATE TABLE IF NOT EXISTS marts.tickets_by_day (day date PRIMARY KEY, opened bigint)"
REMOVE = "DELETE FROM marts.tickets_by_day WHERE day = %(start)s::date"
INSERT = """
    INSERT INTO marts.tickets_by_day
    SELECT %(start)s::date, count(*) FROM raw_service_desk.tickets
    WHERE opened_at >= %(start)s AND opened_at < %(end)s
"""


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),  # a run a day, of that day
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # days before today only where somebody asks for them
    max_active_runs=2,
    tags=["example"],
    default_args={
        "owner": "it-analytics",
        "retries": 3,
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=10),
    },
)
def each_day() -> None:
    """Count the tickets that were opened on a day."""

    @task
    def opened(data_interval_start=None, data_interval_end=None) -> None:
        day = {"start": data_interval_start, "end": data_interval_end}
        hook = PostgresHook(postgres_conn_id="warehouse")
        with closing(hook.get_conn()) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('tickets_by_day'))")
            for statement in (CREATE, REMOVE, INSERT):
                cursor.execute(statement, day)
            connection.commit()

    opened()


each_day()

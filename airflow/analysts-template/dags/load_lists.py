"""Lists that people keep in files, by dlt: what is pushed today is there tomorrow."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset, dag, task

LOADED = Asset("load_lists")  # schedule=[LOADED] runs another DAG after this one


@dag(
    schedule="30 2 * * *",  # UTC
    catchup=False,
    max_active_runs=1,
    tags=["load"],
    default_args={
        "owner": "school-analytics",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=30),
    },
)
def load_lists() -> None:
    """Load what is new; the asset's event has the rows by table."""

    @task(outlets=[LOADED])
    def load(*, outlet_events=None) -> dict[str, int]:
        # Here and not above: dlt takes seconds to import, and this file is read every few minutes.
        from loads.pipelines import lists

        rows = lists.run()
        outlet_events[LOADED].extra = rows
        return rows

    load()


load_lists()

"""The library's loans, by dlt from its REST API."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset, dag, task

LOADED = Asset("load_library")  # schedule=[LOADED] runs another DAG after this one


@dag(
    schedule=None,  # "30 2 * * *" once the platform team has added the connection `library`
    catchup=False,
    max_active_runs=1,
    tags=["load"],
    default_args={
        "owner": "it-analytics",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=30),
    },
)
def load_library() -> None:
    """Load what is new; the asset's event has the rows by table."""

    @task(outlets=[LOADED])
    def load(*, outlet_events=None) -> dict[str, int]:
        # Here and not above: dlt takes seconds to import, and this file is read every few minutes.
        from loads.pipelines import library

        rows = library.run()
        outlet_events[LOADED].extra = rows
        return rows

    load()


load_library()

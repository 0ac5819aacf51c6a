"""An asset-driven schedule: runs when a pipeline has published, whenever that is.

`published_table("raw_hr", "payroll")` is one table, `published("raw_hr")` whatever the pipeline
published; `|` means any of them, `&` all of them since the last run.
"""

from __future__ import annotations

from airflow.sdk import Asset, dag, task
from harmattan.pipelines import published_table

TICKETS, ASSETS = (published_table("raw_service_desk", name) for name in ("tickets", "assets"))


@dag(
    schedule=(TICKETS & ASSETS),
    catchup=False,
    tags=["example"],
    default_args={"owner": "it-analytics"},
)
def after_pipeline() -> None:
    """Say how many rows were published, and tell the DAGs that wait for this one."""

    @task(outlets=[Asset("service_desk_checked")])
    def checked(triggering_asset_events=None) -> dict[str, int]:
        newest = {asset.name: events[-1] for asset, events in triggering_asset_events.items()}
        return {name: event.extra.get("rows", 0) for name, event in newest.items()}

    checked()


after_pipeline()

"""What only the web server loads: borders between it, pipelines and strangers' tasks."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from harmattan.log_fetch import fetch_from_nodes_alone
from harmattan.task_api import PipelinesApart


class Borders(AirflowPlugin):
    """Stands before Airflow's API for tasks, and before what fetches logs."""

    name = "borders"
    fastapi_root_middlewares = [  # noqa: RUF012
        {"middleware": PipelinesApart, "name": "Pipelines apart"}
    ]

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Do what no list of Airflow's is for."""
        fetch_from_nodes_alone()

"""What only the web server loads: the border between pipelines and other DAGs' tasks."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from harmattan.task_api import PipelinesApart


class TaskApi(AirflowPlugin):
    """Stands before Airflow's API for tasks."""

    name = "task_api"
    fastapi_root_middlewares = [  # noqa: RUF012
        {"middleware": PipelinesApart, "name": "Pipelines apart"}
    ]

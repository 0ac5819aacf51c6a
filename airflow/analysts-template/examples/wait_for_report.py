"""A deferrable sensor: waits for another DAG's run of the same moment without holding a worker.

`deferrable=True` is what does it. The waiting is done in the triggerer, where there is no
connection of yours: sensors that wait for a time (`DateTimeSensorAsync`, `TimeDeltaSensor`) or for
another DAG (`ExternalTaskSensor`) work there. One that asks a database or a service does not; where
it waits for a pipeline, let the pipeline's asset start your DAG instead (`after_pipeline.py`).
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.sdk import dag, task


@dag(
    schedule="0 4 * * *",  # UTC, as school_report: the sensor waits for its run of this moment
    catchup=False,
    tags=["example"],
    default_args={"owner": "it-analytics", "retries": 3, "retry_exponential_backoff": 2.0},
)
def wait_for_report() -> None:
    """Do something when the school's report is there."""
    ready = ExternalTaskSensor(
        task_id="ready",
        external_dag_id="school_report",
        allowed_states=["success"],
        failed_states=["failed"],  # or it would wait for a run that has ended
        poke_interval=5.0,  # seconds
        timeout=timedelta(hours=2).total_seconds(),
        deferrable=True,
    )

    @task
    def announce() -> str:
        return "the report is there"

    ready >> announce()


wait_for_report()

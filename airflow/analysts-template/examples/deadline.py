"""A deadline: somebody gets a mail when a run is not done two hours after it was due.

The run goes on; the mail is sent once. It is sent by a worker (`SyncCallback`), which may read the
connection `smtp_default`; the triggerer, where an `AsyncCallback` would run, may not. If no worker
is free for three minutes, no mail is sent: unlike a task, a callback is not queued again.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback, dag, task

LATE = SyncCallback(
    SmtpNotifier,
    kwargs={
        "to": "it-analytics@school.example",
        "subject": "{{ dag_run.dag_id }} is late",
        "html_content": "The run {{ dag_run.dag_run_id }} is not done yet.",
    },
)


@dag(
    schedule="0 4 * * *",  # UTC
    catchup=False,
    tags=["example"],
    default_args={"owner": "it-analytics"},
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
        interval=timedelta(hours=2),
        callback=LATE,
    ),
)
def deadline() -> None:
    """Do what has to be done by six o'clock."""

    @task
    def work() -> str:
        return "done"

    work()


deadline()

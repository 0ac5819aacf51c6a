"""E-mail: a figure every week, and a mail when a task has failed for good.

Both need the connection `smtp_default`, which the platform team puts into Vault for your tasks, as
`smtp://USER:PASSWORD@mail.school.example:587/?from_email=airflow%40school.example&disable_ssl=true`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.providers.smtp.notifications.smtp import SmtpNotifier
from airflow.providers.smtp.operators.smtp import EmailOperator
from airflow.sdk import dag, task

TEAM = "it-analytics@school.example"
OPEN = """
    SELECT count(*) FROM raw_service_desk.tickets WHERE status NOT IN ('resolved', 'closed')
"""
FAILED = SmtpNotifier(
    to=TEAM,
    subject="{{ dag.dag_id }} failed",
    html_content="The task {{ ti.task_id }} failed: <a href='{{ ti.log_url }}'>its log</a>.",
)


@dag(
    schedule="0 6 * * MON",  # UTC
    catchup=False,
    tags=["example"],
    default_args={
        "owner": "it-analytics",
        "retries": 3,
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=10),
        # At tasks, where the worker sends it: the same at @dag would run where no connection is.
        "on_failure_callback": FAILED,
    },
)
def mail() -> None:
    """Mail how many tickets are open."""

    @task
    def open_tickets() -> int:
        (rows,) = PostgresHook(postgres_conn_id="warehouse").get_first(OPEN)
        return rows

    EmailOperator(
        task_id="send",
        to=TEAM,
        subject="Open tickets",
        html_content="<p>{{ ti.xcom_pull('open_tickets') }} tickets are open.</p>",
    ).set_upstream(open_tickets())


mail()

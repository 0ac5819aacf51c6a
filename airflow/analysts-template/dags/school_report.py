"""The school's report: what the service desk has open, by kind of asset and priority."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import dag, task

from include.warehouse import rebuild

OPEN_TICKETS = """
    SELECT coalesce(asset.kind::text, 'no asset') AS kind, ticket.priority,
           count(*) AS tickets, min(ticket.opened_at) AS oldest
    FROM raw_service_desk.tickets AS ticket
    LEFT JOIN raw_service_desk.assets AS asset ON asset.id = ticket.asset_id
    WHERE ticket.status NOT IN ('resolved', 'closed')
    GROUP BY 1, 2
"""


@dag(
    schedule="0 4 * * *",  # UTC; the pipelines have published by then
    catchup=False,
    max_active_runs=1,
    tags=["report"],
    default_args={
        "owner": "it-analytics",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_exponential_backoff": 2.0,
        "execution_timeout": timedelta(minutes=30),
    },
)
def school_report() -> None:
    """Rebuild ``marts.open_tickets_by_kind`` every morning."""

    @task
    def open_tickets_by_kind() -> int:
        return rebuild(
            "open_tickets_by_kind",
            OPEN_TICKETS,
            needs=["raw_service_desk.tickets", "raw_service_desk.assets"],
        )

    open_tickets_by_kind()


school_report()

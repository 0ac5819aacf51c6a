"""Tells a webhook when a pipeline fails and when it is well again, and those who want a mail.

An alert that cannot be delivered is logged and never fails the data.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from frame import certificate, posting
from frame.failure import Failure
from ingest import connections, mails

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ingest.connections import Entry
    from ingest.job import Job

log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds after which no other attempt begins: the run is waiting


def failed(job: Job, reason: Failure, table: str | None, *, step: str, log_url: str = "") -> None:
    """Post that a run failed: in which step, on which table, and why."""
    _tell(job, "failed", table=table, step=step, reason=str(reason), log_url=log_url)
    if job.pipeline.email:
        _mail(job, str(reason), log_url)


def recovered(job: Job, *, log_url: str = "") -> None:
    """Post that a run went well after one that failed."""
    _tell(job, "recovered", table=None, step=None, reason=None, log_url=log_url)


def _tell(job: Job, status: str, **facts: str | None) -> None:
    if job.pipeline.alert is None:
        return
    body = {
        "status": status,
        "pipeline": job.name,
        "source": job.pipeline.source,
        "schema": job.pipeline.published_schema,
        "owner": job.pipeline.owner,
        "run_id": job.run_id,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }
    deliver(job.pipeline.alert, job.resolve, body)


def _mail(job: Job, reason: str, log_url: str) -> None:
    """Send the mail about a failed run; what prevents it is logged."""
    text = f"Pipeline {job.name} (owner: {job.pipeline.owner}) failed.\n\n{reason}\n\n"
    text += f"Run {job.run_id}" + (f": {log_url}" if log_url else "") + "\n"
    try:
        by = mails.server(job.resolve(mails.CONNECTION))
        mails.send(job.pipeline.email, f"Pipeline {job.name} failed", text, by)
    except Failure as error:
        log.warning("mail not sent: %s", error)
    except OSError as error:  # what the server said may repeat a login
        log.warning(
            "mail not sent by connection %s: %s",
            mails.CONNECTION,
            certificate.failure("mail server", error)
            or f"expected the server to take it, found {type(error).__name__}",
        )


def deliver(
    connection_id: str, resolve: Callable[[str], Entry], body: Mapping[str, str | None]
) -> None:
    """Post ``body`` as JSON to the webhook of ``connection_id``; what prevents it is logged."""
    try:
        hook = connections.webhook(resolve(connection_id))
        posting.post(hook.url, body, hook.headers, peer="webhook", patience=_PATIENCE)
    except (Failure, posting.UndeliveredError) as error:
        log.warning("alert not delivered to connection %s: %s", connection_id, error)
    except Exception as error:  # a connection may hold anything, and its faults may show it
        log.warning(
            "alert not delivered to connection %s: expected a webhook, found %s",
            connection_id,
            type(error).__name__,
        )

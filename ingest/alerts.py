"""Tells a webhook when a pipeline fails and when it is well again, and those who want a mail.

An alert that cannot be delivered is logged and never fails the data.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import tenacity

from frame import certificate
from frame.failure import Failure
from ingest import connections, mails

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ingest.connections import Entry, Webhook
    from ingest.job import Job

log = logging.getLogger(__name__)

_TIMEOUT = 10.0  # seconds an answer may take
_ATTEMPTS = 5
_PATIENCE = 30.0  # seconds after which no other attempt begins: the run is waiting
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


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
        _post(connections.webhook(resolve(connection_id)), body)
    except (Failure, _Undelivered) as error:
        log.warning("alert not delivered to connection %s: %s", connection_id, error)
    except Exception as error:  # a connection may hold anything, and its faults may show it
        log.warning(
            "alert not delivered to connection %s: expected a webhook, found %s",
            connection_id,
            type(error).__name__,
        )


class _Undelivered(Exception):
    """The webhook did not take an alert; the message never holds its URL."""


class _Again(_Undelivered):
    """It may take it later."""


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(_Again),
    stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_after_delay(_PATIENCE),
    wait=tenacity.wait_exponential_jitter(initial=1, max=10),
    reraise=True,
)
def _post(hook: Webhook, body: Mapping[str, str | None]) -> None:
    import httpx  # takes a tenth of a second, and most runs need none

    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines show the URL
    try:
        # What the answer says beside its status is not read: it may have no end.
        with httpx.stream(
            "POST", hook.url, json=body, headers=dict(hook.headers), timeout=_TIMEOUT
        ) as answer:
            status = answer.status_code
    except httpx.TransportError as error:
        raise (
            certificate.failure("webhook", error)
            or _Again(f"expected an answer, found {type(error).__name__}")
        ) from None
    except httpx.InvalidURL:
        raise _Undelivered("expected a URL, found something else") from None
    if httpx.codes.is_success(status):
        return
    kind = _Again if status in _RETRIED else _Undelivered
    raise kind(f"expected success, found HTTP status {status}")

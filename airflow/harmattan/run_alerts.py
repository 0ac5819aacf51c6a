"""Posts to a webhook that a run of the analysts' DAGs failed, and that the DAG is well again.

It hears of all DAGs, without a line in any. Pipelines report by themselves (ingest.alerts), so
their runs are left out. The scheduler only notes which run ended: a thread asks the database and
posts, so a receiver that is away or slow holds up nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.configuration import conf
from airflow.listeners import hookimpl
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from sqlalchemy import select

from frame import posting
from frame.failure import Failure
from harmattan.claims import is_pipelines

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

_WAITING = 1000  # runs that are not posted yet; a run is some hundred bytes
_PATIENCE = 30.0  # seconds after which no other attempt begins: others are waiting
_TASKS = 20  # failed tasks that a message names
_LENGTH = 250  # characters, as long as an id may be


@dataclass(frozen=True)
class Ended:
    """A run that has ended."""

    dag_id: str
    run_id: str
    failed: bool


class RunAlerts:
    """A listener of Airflow's for the scheduler's process.

    ``url_file`` holds the webhook's URL, a secret: it is read for each post and shown nowhere. If
    it is empty nothing is posted.
    """

    def __init__(self, url_file: Path) -> None:
        """Start the thread that posts."""
        self._url_file = url_file
        self._ended: queue.Queue[Ended] = queue.Queue(_WAITING)
        self._failing: set[str] = set()  # DAGs of which a failure was posted, and nothing since
        threading.Thread(target=self._post_all, name="run alerts", daemon=True).start()

    @hookimpl
    def on_dag_run_failed(self, dag_run: DagRun, msg: str) -> None:
        """Note that a run failed."""
        self._note(dag_run, failed=True)

    @hookimpl
    def on_dag_run_success(self, dag_run: DagRun, msg: str) -> None:
        """Note that a run went well."""
        self._note(dag_run, failed=False)

    def _note(self, dag_run: DagRun, *, failed: bool) -> None:
        if is_pipelines(dag_run.dag_id):
            return
        try:
            self._ended.put_nowait(Ended(dag_run.dag_id, dag_run.run_id, failed))
        except queue.Full:
            log.warning("no alert of a run: %s others are waiting to be posted", _WAITING)

    def _post_all(self) -> None:
        while True:
            ended = self._ended.get()
            try:
                self._post(ended)
            except (Failure, posting.UndeliveredError) as error:
                log.warning("alert of a run not delivered: %s", error)
            except Exception as error:  # whatever it is, its text may show the URL
                log.warning("alert of a run not delivered: %s", type(error).__name__)

    def _post(self, ended: Ended) -> None:
        url = self._url_file.read_text().strip()
        if not url:
            return
        with create_session() as session:
            if not ended.failed and not self._was_failing(ended, session):
                return
            body = _message(ended, session)
        (self._failing.add if ended.failed else self._failing.discard)(ended.dag_id)
        posting.post(url, body, {}, peer="webhook", patience=_PATIENCE)

    def _was_failing(self, ended: Ended, session: Session) -> bool:
        """Return whether the DAG's run before this one failed, or this one itself did before."""
        if ended.dag_id in self._failing:
            return True
        before = (
            select(DagRun.state)
            .where(
                DagRun.dag_id == ended.dag_id,
                DagRun.run_id != ended.run_id,
                DagRun.state.in_(("success", "failed")),
            )
            .order_by(DagRun.end_date.desc())
            .limit(1)
        )
        return session.scalar(before) == "failed"


def _message(ended: Ended, session: Session) -> dict[str, Any]:
    """Return what is posted; ids and owners are strangers' texts."""
    owner = session.scalar(select(DagModel.owners).where(DagModel.dag_id == ended.dag_id))
    tasks = (
        select(TaskInstance.task_id)
        .where(
            TaskInstance.dag_id == ended.dag_id,
            TaskInstance.run_id == ended.run_id,
            TaskInstance.state == "failed",
        )
        .distinct()
        .order_by(TaskInstance.task_id)
        .limit(_TASKS)
    )
    base = conf.get("api", "base_url", fallback="").rstrip("/")
    dag, run = (quote(each, safe="") for each in (ended.dag_id, ended.run_id))
    return {
        "status": "failed" if ended.failed else "recovered",
        "dag": _clean(ended.dag_id),
        "owner": _clean(owner or ""),
        "run_id": _clean(ended.run_id),
        "tasks": [_clean(each) for each in session.scalars(tasks)] if ended.failed else [],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "log_url": f"{base}/dags/{dag}/runs/{run}",
    }


def _clean(text: str) -> str:
    """Return ``text`` on one line of at most ``_LENGTH`` characters, without control characters."""
    kept = (each for each in text if not unicodedata.category(each).startswith("C"))
    return "".join(kept)[:_LENGTH]

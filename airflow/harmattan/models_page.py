"""The models' documentation and results, as the newest run left them beside its logs.

They are fetched as Airflow's UI fetches logs: from the log server of the node on which the run was,
by a signed request. What analysts wrote is in these pages, so a browser shows them as a site of
their own, which has no cookies and can ask Airflow nothing (CSP `sandbox`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import requests
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep  # noqa: TC002  FastAPI reads it
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.configuration import conf
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from fastapi import Depends, FastAPI, HTTPException, Response
from sqlalchemy import select

from harmattan.log_fetch import fetch

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "/models"
DAG = "models"
PAGES = {
    "documentation": ("docs/static_index.html", "text/html; charset=utf-8"),
    "results": ("run_results.json", "application/json"),
    "manifest": ("manifest.json", "application/json"),
}
MOST_RUNS = 20  # that are looked through: a run that never reached dbt has left nothing
MOST_BYTES = 32 << 20  # the school's page has 3 MB; analysts' tasks could write any
HEADERS = {
    "Content-Security-Policy": "sandbox allow-scripts allow-popups; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "private, no-cache",
}

app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)


@app.get(
    "/{page}",
    dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS, DAG))],
)
def show(page: str, session: SessionDep) -> Response:
    """Return one of PAGES, of the newest run that has it."""
    if page not in PAGES:
        raise HTTPException(404, f"there is no such page; there are {', '.join(PAGES)}")
    name, kind = PAGES[page]
    wanted = [TaskInstance.dag_id == DAG, TaskInstance.end_date.is_not(None)]
    if page == "documentation":  # a mere load writes none
        wanted.append(DagRun.run_type != "asset_triggered")
    runs = session.execute(
        select(TaskInstance.run_id, TaskInstance.hostname)
        .join(DagRun, (DagRun.dag_id == DAG) & (DagRun.run_id == TaskInstance.run_id))
        .where(*wanted)
        .order_by(TaskInstance.end_date.desc())
        .limit(MOST_RUNS)
    ).all()
    content = _newest(((run_id, str(host)) for run_id, host in runs), name)
    if content is None:
        raise HTTPException(404, f"no run of the DAG {DAG} has left this page yet; run it once")
    return Response(content, media_type=kind, headers=HEADERS)


def _newest(runs: Iterable[tuple[str, str]], name: str) -> bytes | None:
    port = conf.get("logging", "worker_log_server_port")
    for run_id, hostname in runs:
        path = f"dag_id={DAG}/run_id={run_id}/artefacts/{name}"
        try:
            answer = fetch(f"http://{hostname}:{port}/log/{quote(path)}", path)
            if answer.ok:
                return _bounded(answer)
        except requests.RequestException:
            raise HTTPException(502, f"the log server of {hostname} does not answer") from None
    return None


def _bounded(answer: requests.Response) -> bytes:
    content = b""
    for piece in answer.iter_content(1 << 20):
        content += piece
        if len(content) > MOST_BYTES:
            answer.close()
            raise HTTPException(413, f"this page is larger than {MOST_BYTES >> 20} MB")
    return content

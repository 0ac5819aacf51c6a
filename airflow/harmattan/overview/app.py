"""The page under Airflow's own address and login: it reads, and there is nothing to send it."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from airflow.configuration import conf
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import Field

from frame.settings import Settings
from harmattan.overview import backups, mirror, night, pages
from harmattan.overview.remembered import Known, Remembered

if TYPE_CHECKING:
    from delivery.history import Sync
    from delivery.report import Report

PREFIX = "/delivery"
MIRROR_SECONDS = 5.0
NIGHT_SECONDS = 30.0
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
_COMMIT = re.compile(r"[0-9a-f]{7,40}")


class Sources(Settings):
    """Where the page reads."""

    PREFIX = "HARMATTAN_"

    mirror: str = Field(pattern=r"^\w+://\S+$", description="URL of the DAG mirror")
    git_config: Path | None = Field(
        default=None, description="file of git's configuration that logs in at the mirror"
    )
    backups: Path | None = Field(default=None, description="file of what backup-coverage found")
    warehouse_uri: Path | None = Field(
        default=None, description="file of the URI of the warehouse, for a login that reads ops"
    )


@cache
def _sources() -> Sources:
    return Sources.from_environment(os.environ)


@cache
def _mirror() -> Remembered[mirror.Read]:
    sources = _sources()
    return Remembered(
        lambda last: mirror.newest(sources.mirror, last, sources.git_config), MIRROR_SECONDS
    )


@cache
def _night() -> Remembered[night.Night] | None:
    file = _sources().warehouse_uri
    return Remembered(lambda _: night.newest(file), NIGHT_SECONDS) if file else None


def _gate() -> Known[Report]:
    known = _mirror().get()
    return Known(known.value.report if known.value else None, known.at, known.failure)


# One dependency for all of it, the style as well: nothing is here for those who are not logged in.
app = FastAPI(
    openapi_url=None,
    docs_url=None,
    redoc_url=None,
    dependencies=[Depends(requires_access_view(AccessView.IMPORT_ERRORS))],
)


@app.exception_handler(HTTPException)
def _to_login(request: Request, error: HTTPException) -> Response:
    """Send a browser that is not logged in to the login, and from there back: links lead here."""
    if error.status_code == 401 and "text/html" in request.headers.get("accept", ""):  # noqa: PLR2004
        base = conf.get("api", "base_url", fallback="").rstrip("/")
        there = f"{base}{PREFIX}{request.url.path.rpartition(PREFIX)[2]}"
        return RedirectResponse(f"{base}/api/v2/auth/login?{urlencode({'next': there})}", 303)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


@app.get("/")
def show_overview() -> Response:
    """Return the page of the syncs and of the night."""
    asked, file = _night(), _sources().backups
    slept, kept = asked.get() if asked else None, backups.newest(file) if file else None
    return _page(pages.overview(_gate(), slept, kept, datetime.now(UTC)))


@app.get("/style.css")
def show_style() -> Response:
    """Return the one stylesheet of the pages."""
    return Response(pages.STYLE.read_bytes(), media_type="text/css", headers=HEADERS)


@app.get("/{commit}")
def show_commit(commit: str, against: str = "") -> Response:
    """Return the page of one of the last syncs, compared with another, or the one before it."""
    gate = _gate()
    syncs = gate.value.syncs if gate.value else ()
    sync = _find(syncs, commit)
    if sync is None:
        return _page(pages.unknown(gate, datetime.now(UTC)), status_code=404)
    earlier = syncs[syncs.index(sync) + 1 :]
    other = _find(syncs, against) or next(iter(earlier), None)
    return _page(pages.commit(gate, sync, other, datetime.now(UTC)))


def _find(syncs: tuple[Sync, ...], commit: str) -> Sync | None:
    if not _COMMIT.fullmatch(commit):
        return None
    return next((each for each in syncs if each.verdict.commit.startswith(commit)), None)


_page = partial(HTMLResponse, headers=HEADERS)

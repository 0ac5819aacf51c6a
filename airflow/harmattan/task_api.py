"""Keeps other DAGs' tasks from writing what is a pipeline's: its XComs and its runs.

Airflow's API for tasks lets any task write the XComs of any DAG, start its runs and clear them. A
pipeline's task runs in the triggerer, which does not come this way, so nobody has to.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from harmattan.claims import is_pipelines

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_READS = ("GET", "HEAD", "OPTIONS")
_OF_DAG = re.compile(r"/execution/(?:xcoms|dag-runs)/([^/]+)/")


class PipelinesApart:
    """Middleware of the api-server: answers 403 to a task that would write a pipeline's things."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before ``app``."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on."""
        app = self._app
        if scope["type"] == "http" and scope["method"] not in _READS:
            asked = _OF_DAG.search(scope["path"])  # what the routes are found by, decoded
            if asked and is_pipelines(asked[1]):
                message = f"XComs and runs of {asked[1]}, a pipeline, are no other task's to write"
                detail = {"reason": "access_denied", "message": message}
                app = JSONResponse({"detail": detail}, status_code=403)
        await app(scope, receive, send)

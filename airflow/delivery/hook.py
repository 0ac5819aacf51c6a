"""What the analysts' git server calls after a push, so that dag-sync looks at once.

A call is believed for its signature over the body (GitHub, Gitea, Forgejo) or its token (GitLab),
and for nothing that it says: all that it does is to force the periodic job, which asks the remote
itself. So a call that is forged, lost or sent twice delivers nothing and holds nothing up.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import threading
import time
from typing import TYPE_CHECKING

import httpx
from fastapi import BackgroundTasks, FastAPI, HTTPException, Request

from delivery import nomad
from delivery.settings import HookSettings
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

log = get_logger(__name__)

PREFIX = "/push"
MOST_BYTES = 1 << 20  # of a body: they say what was pushed, which is not read
MOST_SECONDS = 10.0  # until all of it is there
PATIENCE = 300.0  # seconds that a run in progress is waited for: more than a sync takes
_EVERY = 1.0

app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)


@app.post("/", status_code=202)
async def pushed(request: Request, background: BackgroundTasks) -> dict[str, str]:
    """Start dag-sync, for a call that has the right signature or token."""
    settings = HookSettings.from_environment(os.environ)
    if not settings.secret_file.exists():
        raise HTTPException(404, "this platform takes no calls of a git server")
    body = bytearray()
    try:
        async with asyncio.timeout(MOST_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BYTES:
                    raise HTTPException(413, f"a call has at most {MOST_BYTES} bytes")
    except TimeoutError:
        raise HTTPException(408, f"a call takes at most {MOST_SECONDS:.0f} seconds") from None
    secret = settings.secret_file.read_bytes().strip()
    if not believed(secret, bytes(body), request.headers):
        log.warning("a call was not believed: its signature or token is not the one in Vault")
        raise HTTPException(403, "the signature or the token is wrong")
    background.add_task(_Turn.start, settings)
    return {"status": "dag-sync is asked to look"}


def believed(secret: bytes, body: bytes, headers: Mapping[str, str]) -> bool:
    """Whether the call was made by one who has the ``secret``; in constant time."""
    if not secret:
        return False
    signed = hmac.new(secret, body, hashlib.sha256).hexdigest()
    for name, expected in (
        ("x-hub-signature-256", f"sha256={signed}"),
        ("x-gitea-signature", signed),
        ("x-gitlab-token", secret.decode(errors="replace")),
    ):
        given = headers.get(name)
        if given is not None:
            return hmac.compare_digest(given.encode(), expected.encode())
    return False


class _Turn:
    """One start at a time: a round that is under way may have fetched already, so it is waited for.

    Calls that come while one waits are served by that one: its round fetches later than they came.
    """

    taken = threading.Lock()

    @classmethod
    def start(cls, settings: HookSettings) -> None:
        """Force the job when no round of it is under way; what prevents it is logged."""
        if not cls.taken.acquire(blocking=False):
            return
        deadline = time.monotonic() + PATIENCE
        try:
            while nomad.under_way(settings, settings.job, settings.namespace):
                if time.monotonic() > deadline:
                    log.warning("not started: a round is still under way", job=settings.job)
                    return
                time.sleep(_EVERY)
            nomad.force(settings, settings.job, settings.namespace)
            log.info("started for a push", job=settings.job)
        except (httpx.HTTPError, OSError, ValueError) as error:
            log.warning("not started; the next round comes by itself", job=settings.job,
                        error=f"{type(error).__name__}: {error}")  # fmt: skip
        finally:
            cls.taken.release()

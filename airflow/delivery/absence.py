"""Since when the remote gives nothing, and who hears of it.

A note on the incoming volume holds it from run to run. A webhook is told after PATIENCE, once a day
from then on, and when the remote is back; its URL is a secret, and never shown.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery import verdict
from frame import posting
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery.settings import FetchSettings

log = get_logger(__name__)

PATIENCE = 3600.0
"""After how many seconds without a fetch somebody is told."""
AGAIN = 86400.0
"""After how many more seconds that is said again."""
_DELIVERY = 30.0  # seconds after which no other attempt begins: the run is waiting


@contextmanager
def watched(settings: FetchSettings) -> Iterator[None]:
    """Note that the remote gives nothing where this fails, and take the note away where not."""
    note = settings.incoming / "failing.json"
    said = verdict.read_json(note)
    known = said if isinstance(said, dict) else {}
    now = datetime.now(UTC).timestamp()
    since, told = _time(known.get("since"), now), _time(known.get("told"), now)
    try:
        yield
    except Failure as failure:
        since = since or now
        reason = verdict.clean(failure.message)
        late = now - since > PATIENCE
        (log.error if late else log.warning)(
            "no fetch; what is live stays live", seconds=round(now - since)
        )
        if late and now - (told or 0) > AGAIN and _post(settings, "failed", since, reason):
            told = now
        with suppress(OSError):  # a full volume: what failed says more
            verdict.write_json(note, {"since": since, "told": told, "reason": reason})
        raise
    if since is not None and told is not None:
        _post(settings, "recovered", since, "")
    note.unlink(missing_ok=True)


def _time(value: object, now: float) -> float | None:
    return value if isinstance(value, int | float) and value <= now else None


def _post(settings: FetchSettings, status: str, since: float, reason: str) -> bool:
    """Tell the webhook, if there is one; return whether nothing is left to tell."""
    try:
        url = settings.alerts_file.read_text().strip() if settings.alerts_file.exists() else ""
        if url:
            body = {
                "status": status,
                "job": "dag-sync",
                "remote": settings.remote,
                "branch": settings.branch,
                "since": datetime.fromtimestamp(since, UTC).isoformat(timespec="seconds"),
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "reason": reason or None,
            }
            posting.post(url, body, {}, peer="webhook", patience=_DELIVERY)
    except (posting.UndeliveredError, Failure, OSError, UnicodeDecodeError) as error:
        log.warning("alert not delivered", error=str(error))
        return False
    return True

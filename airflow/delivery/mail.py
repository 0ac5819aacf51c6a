"""A mail to the author of a push that was refused, if the platform team named domains for it.

Who an author is strangers write into a commit. So a mail goes to a plain address of a named domain
alone: whoever pushes can have a colleague hear of a push, and nobody else. What prevents a mail
changes no verdict.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from frame import certificate
from frame.failure import Failure
from frame.log import get_logger
from ingest import mails
from ingest.connections import Entry

if TYPE_CHECKING:
    from delivery.history import Sync
    from delivery.settings import PublishSettings

log = get_logger(__name__)

MOST_LINES = 200
_AUTHOR = re.compile(r".*<([a-z0-9][a-z0-9._+-]{0,63})@([a-z0-9.-]{1,253})>", re.IGNORECASE)


def tell(settings: PublishSettings, sync: Sync) -> None:
    """Mail the findings of a refused push to its author, if wanted; log what prevents it."""
    to = recipient(sync.author, settings.domains)
    if sync.verdict.outcome != "refused" or to is None:
        return
    try:
        uri = settings.mail_file.read_text().strip()
        by = mails.server(Entry("delivery/mail", uri.partition(":")[0], uri))
        subject = f"Push {sync.verdict.commit[:10]} was refused"
        mails.send([to], subject, text(sync, settings.pages), by)
    except (Failure, UnicodeDecodeError) as error:
        log.warning("the author was not told", error=str(error))
    except OSError as error:  # what the server said may repeat a login
        reason = certificate.failure("mail server", error) or type(error).__name__
        log.warning("the author was not told", error=str(reason))
    else:
        log.info("told the author", commit=sync.verdict.commit)


def recipient(author: str, domains: tuple[str, ...]) -> str | None:
    """Return the address in ``Name <address>`` if it is of one of ``domains``, else None."""
    found = _AUTHOR.fullmatch(author)
    if found is None or found[2].lower() not in domains:
        return None
    return f"{found[1]}@{found[2].lower()}"


def text(sync: Sync, pages: str) -> str:
    """Return what the mail says: what is wrong with the push, and where more of it stands."""
    made = sync.verdict
    lines = [line for finding in made.findings for line in finding.lines()]
    left = len(lines) - MOST_LINES
    return "\n".join(
        [
            f"The push {made.commit} was refused, and {made.live[:10]} stays live.",
            "",
            *lines[:MOST_LINES],
            *([f"and {left} more lines"] if left > 0 else []),
            "",
            *([f"{pages}/{made.commit}"] if pages else []),
            "",
        ]
    )

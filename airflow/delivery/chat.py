"""A chat message of a push that was refused, if the platform team gave the URL of a webhook.

The form, ``{"text": …}``, is the one that Slack, Mattermost and Rocket.Chat take. What strangers
wrote can mention nobody and link nowhere. What prevents a message changes no verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery import mail
from frame import posting
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from delivery.history import Sync
    from delivery.settings import PublishSettings

log = get_logger(__name__)

MOST_CHARACTERS = 3000  # Slack advises 4000 at most
_PATIENCE = 30.0  # seconds after which no other attempt begins
# Nothing ends the block of code; Slack's mentions and links are in <>, and others' begin with @.
_HARMLESS = str.maketrans({"<": "\u2039", ">": "\u203a", "`": "'", "@": "@\u200b"})


def tell(settings: PublishSettings, sync: Sync) -> None:
    """Post the findings of a refused push, if wanted; log what prevents it."""
    if sync.verdict.outcome != "refused":
        return
    try:
        url = settings.chat_file.read_text().strip()
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        log.warning("the chat was not told", error=type(error).__name__)
        return
    try:
        body = {"text": text(sync, settings.pages)}
        posting.post(url, body, {}, peer="chat", patience=_PATIENCE)
    except (Failure, posting.UndeliveredError) as error:
        log.warning("the chat was not told", error=str(error))
    else:
        log.info("told the chat", commit=sync.verdict.commit)


def text(sync: Sync, pages: str) -> str:
    """Return the message: who pushed and what is wrong, as a block of code, and a link."""
    said = f"{sync.author}\n{mail.text(sync, '')}".translate(_HARMLESS).strip()
    if len(said) > MOST_CHARACTERS:
        said = f"{said[:MOST_CHARACTERS]}\n…"
    commit = sync.verdict.commit
    return f"```\n{said}\n```" + (f"\n{pages}/{commit}" if pages else "")

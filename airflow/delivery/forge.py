"""A commit's status at the server that holds the analysts' repository, where they look first.

Three forms, each by its own documentation: GitHub's and Gitea's (Forgejo's is the same) ``POST
…/statuses/SHA`` with JSON, GitLab's ``POST …/statuses/SHA`` with its token in a header of its own.
What a server says is not read beyond its status, and what prevents a status changes no verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery.verdict import clean
from frame import posting
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from delivery.settings import PublishSettings
    from delivery.verdict import Verdict

log = get_logger(__name__)

CONTEXT = "harmattan"
_PATIENCE = 5.0  # seconds after which no other attempt begins: the next sync is waiting
_LONGEST = 140  # characters of a description: GitHub's limit, the least of the three
_STATES = {
    "github": {"sound": "success", "refused": "failure", "unknown": "error"},
    "gitlab": {"sound": "success", "refused": "failed", "unknown": "failed"},
    "gitea": {"sound": "success", "refused": "failure", "unknown": "error"},
}


def tell(settings: PublishSettings, verdict: Verdict) -> None:
    """Set the status of the verdict's commit, if a forge is named; what prevents it is logged."""
    if settings.forge == "none":
        return
    try:
        token = settings.forge_token_file.read_text().strip()
        posting.post(
            f"{settings.forge_url}/statuses/{verdict.commit}",
            body(settings.forge, verdict, settings.pages),
            headers(settings.forge, token),
            peer="forge",
            patience=_PATIENCE,
        )
    except (posting.UndeliveredError, Failure, OSError, UnicodeDecodeError) as error:
        log.warning("the commit's status was not set", forge=settings.forge, error=str(error))
    else:
        log.info("set the commit's status", forge=settings.forge, commit=verdict.commit)


def headers(forge: str, token: str) -> dict[str, str]:
    """Return the headers that the forge wants of a request."""
    match forge:
        case "github":
            return {
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "X-GitHub-Api-Version": "2022-11-28",
            }
        case "gitlab":
            return {"PRIVATE-TOKEN": token}
        case _:
            return {"Authorization": f"token {token}"}


def body(forge: str, verdict: Verdict, pages: str = "") -> dict[str, Any]:
    """Return the status as the forge wants it: the verdict, and of a refusal what is wrong.

    It leads to the commit's page in the folder ``pages``, if there is one.
    """
    link = {"target_url": f"{pages}/{verdict.commit}"} if pages else {}
    return {
        **link,
        "state": _STATES[forge][verdict.outcome],
        "name" if forge == "gitlab" else "context": CONTEXT,
        "description": clean(_description(verdict), _LONGEST),
    }


def _description(verdict: Verdict) -> str:
    if verdict.outcome == "sound":
        stands = "live" if verdict.live == verdict.commit else "sound; a pin holds live elsewhere"
        departs = len(verdict.exemptions)
        return stands + (f", with {departs} exemptions" if departs else "")
    if verdict.outcome == "unknown" or not verdict.findings:
        return f"{verdict.outcome}: {verdict.reason}"
    first = verdict.findings[0]
    place = f"{first.file}:{first.line}" if first.line else first.file or "the push"
    count = len(verdict.findings)
    return f"{count} finding{'s' if count > 1 else ''}: {place}: {first.rule}: {first.what}"

"""Tells the outside: a webhook of what is wrong, a dead-man's switch of each good backup.

Neither ever fails a run: what cannot be told is logged. Their URLs are secrets, and never shown.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import requests
import tenacity
from pydantic import BaseModel, ConfigDict, SecretStr

from backup.deadline import clean_up, left
from backup.settings import ALERTS, read_json
from frame import certificate
from frame.failure import Failure, Stopped
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.settings import Settings

TIMEOUT = 10.0  # seconds an answer may take
ATTEMPTS = 5
PATIENCE = 60.0  # seconds after which no other attempt begins
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})

log = get_logger(__name__)


class Alerts(BaseModel):
    """Where to tell what: URLs, empty for nowhere.

    ``webhook`` takes a POST of JSON. ``ping`` takes a GET of ``<ping>/<name>`` after each good
    backup and raises its own alarm when none comes, as healthchecks.io and its like do.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    webhook: SecretStr = SecretStr("")
    ping: SecretStr = SecretStr("")

    @classmethod
    def of(cls, settings: Settings) -> Alerts:
        """Return what the secret file says; without one nothing is told, as at a desk."""
        path = settings.secret_path(ALERTS)
        if not path.exists():
            return cls()
        return read_json(path, cls, '{"webhook": "https://...", "ping": ""}')

    def failed(self, job: str, environment: str, findings: list[dict[str, Any]]) -> None:
        """Post that ``job`` found something wrong."""
        if url := self.webhook.get_secret_value():
            body = {
                "status": "failed",
                "job": job,
                "environment": environment,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "findings": findings,
            }
            _tell("alert", "POST", url, body)

    @contextmanager
    def if_it_breaks(self, job: str, environment: str) -> Iterator[None]:
        """Post why ``job`` could not do its work, whatever it was; the error goes on."""
        try:
            yield
        except (Exception, Stopped) as error:
            with clean_up("alert"):
                self.failed(job, environment, [{"error": _words(error)}])
            raise

    def good(self, name: str) -> None:
        """Reset the dead-man's switch of ``name``."""
        if url := self.ping.get_secret_value():
            _tell("ping", "GET", f"{url.rstrip('/')}/{name}", None)


def _words(error: BaseException) -> str:
    if isinstance(error, Failure):
        return error.message
    if isinstance(error, Stopped):
        return str(error)
    return type(error).__name__  # its words may hold anything


class _Undelivered(Exception):
    """It was not taken; the message never holds the URL."""


class _Again(_Undelivered):
    """It may be taken later."""


def _tell(what: str, method: str, url: str, body: dict[str, Any] | None) -> None:
    try:
        _send(method, url, body)
    except Failure as failure:
        log.warning(f"{what} not delivered", why=failure.message, hint=failure.hint)
    except _Undelivered as error:
        log.warning(f"{what} not delivered", why=str(error))


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(_Again),
    stop=tenacity.stop_after_attempt(ATTEMPTS) | tenacity.stop_after_delay(PATIENCE),
    wait=tenacity.wait_exponential_jitter(initial=1, max=10),
    reraise=True,
)
def _send(method: str, url: str, body: dict[str, Any] | None) -> None:
    try:
        answer = requests.request(method, url, json=body, timeout=min(TIMEOUT, left() + 1))
    except (requests.ConnectionError, requests.Timeout) as error:
        raise certificate.failure("server", error) or _Again(type(error).__name__) from None
    except requests.RequestException as error:  # a URL that is none, say
        raise _Undelivered(type(error).__name__) from None
    if not answer.ok:
        kind = _Again if answer.status_code in RETRIED else _Undelivered
        raise kind(f"answered with {answer.status_code}")

"""b2sdk's session with B2, as this program uses it: one try a call, each bounded, and its clock.

b2sdk tries its JSON calls five times and waits 20 minutes for the answer of each, 100 in all, where
nothing wakes it. Here whoever calls is patient (:mod:`backup.bucket.patience`).
"""

from __future__ import annotations

import time
import warnings
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from b2sdk.v3 import B2Api, B2Http, B2HttpApiConfig, B2Session, InMemoryAccountInfo
from b2sdk.v3.exception import (
    B2ConnectionError,
    B2Error,
    CapExceeded,
    InvalidAuthToken,
    Unauthorized,
)
from requests.exceptions import RequestException

from backup.deadline import left
from backup.waits import waiting_for
from frame import certificate
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECT_SECONDS = 46.0  # four retransmissions of TCP; for a block that is sent too
ANSWER_SECONDS = 128.0  # until an answer begins or goes on
COPY_SECONDS = 20 * 60.0  # the same of a copy, for which B2 reads and writes up to 5 GB
COPIES = ("/b2_copy_file", "/b2_copy_part")
BEHIND = 1.0  # seconds by which the command's own limit comes first, and is what is told

# To b2sdk a 400 with a code that it does not know is worth a warning; here it is an error as such.
warnings.filterwarnings("ignore", message="bad request exception with an unknown")


class Requests(requests.Session):
    """HTTP that waits for nothing longer than the command has left, and looks at B2's clock.

    ``ahead`` is by how many seconds this host's clock was ahead of B2's, by the answer that came
    quickest: B2 tells whole seconds. None until there was one that told the time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ahead: float | None = None
        self._quickest = inf

    def request(self, method: str, url: str, **how: Any) -> requests.Response:  # type: ignore[override]
        """Send a request and return the answer once its head is there."""
        answer = COPY_SECONDS if url.endswith(COPIES) else ANSWER_SECONDS
        how["timeout"] = tuple(min(each, left() + BEHIND) for each in (CONNECT_SECONDS, answer))
        began = time.time()
        with waiting_for("B2", _call(url)):  # should nobody be patient here
            response = super().request(method, url, **how)
        self._look_at_clock(response.headers, began, time.time())
        return response

    def _look_at_clock(self, headers: Mapping[str, str], began: float, ended: float) -> None:
        try:
            told = parsedate_to_datetime(headers["Date"]).timestamp()
        except (KeyError, ValueError):
            return
        if ended - began < self._quickest:
            self._quickest = ended - began
            self.ahead = (began + ended) / 2 - (told + 0.5)


def _call(url: str) -> str:
    """Return B2's name of the call that an address is of."""
    parts = urlsplit(url).path.split("/")
    return next((part for part in parts if part.startswith("b2_")), "an answer")


class _Http(B2Http):  # type: ignore[misc] # b2sdk has no types
    """b2sdk's HTTP without its own tries."""

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        data: Any = None,
        try_count: int = 1,
        params: dict[str, str] | None = None,
        **how: Any,
    ) -> Any:
        return super().request(method, url, headers, data, 1, params, **how)

    def request_content_return_json(self, *request: Any, **how: Any) -> Any:
        """Return B2's answer. One without the JSON of it was lost on its way."""
        try:
            answer = super().request_content_return_json(*request, **how)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise B2ConnectionError("the answer is not the JSON that was expected")
        return answer


class _Session(B2Session):  # type: ignore[misc] # b2sdk has no types
    B2HTTP_CLASS = staticmethod(_Http)

    def authorize_account(self, realm: str, key_id: str, key: str) -> None:
        """Exchange the key for a token; a key that B2 does not take is no token that expired."""
        try:
            super().authorize_account(realm, key_id, key)
        except InvalidAuthToken as error:
            raise Unauthorized(error.message, error.code or "bad_auth_token") from error


class _Api(B2Api):  # type: ignore[misc] # b2sdk has no types
    SESSION_CLASS = staticmethod(_Session)


def new_api() -> tuple[Any, Requests]:
    """Return b2sdk's API, not yet authorised, and the HTTP below it, to be closed at the end."""
    http = Requests()
    # Its own look at the clock ends a call whose answer has no Date, and at ten minutes only.
    config = B2HttpApiConfig(http_session_factory=lambda: http, install_clock_skew_hook=False)
    return _Api(InMemoryAccountInfo(), api_config=config), http


def _b2_error(doing: str, error: Exception) -> Failure:
    words = " ".join(str(error).split())[-300:]
    hint = "Look at the B2 key's rights and expiry, the bucket's name and the way to the realm."
    if isinstance(error, CapExceeded) or "cap_exceeded" in words:
        hint = "Raise this cap of the B2 account, or wait until it begins again at 00:00 UTC."
    return Failure(f"{doing} failed: {type(error).__name__}: {words}", hint)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise :class:`Failure` where B2, or the way to it, refuses what is ``doing`` inside."""
    try:
        yield
    except (B2Error, RequestException) as error:
        raise certificate.failure(doing, error) or _b2_error(doing, error) from error

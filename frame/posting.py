"""Posts JSON to a server that is told something: a webhook, or the one that holds a repository.

What it says is not read beyond its status: it may have no end. URLs and headers may be secrets, so
no error and no log shows one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import tenacity

from frame import certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT = 10.0  # seconds an answer may take
_ATTEMPTS = 5
_WAIT = tenacity.wait_exponential_jitter(initial=1, max=10)  # seconds between two
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class UndeliveredError(Exception):
    """The server did not take it."""


class _AgainError(UndeliveredError):
    """It may take it later."""


def post(
    url: str, body: Mapping[str, Any], headers: Mapping[str, str], *, peer: str, patience: float
) -> None:
    """Post ``body`` to ``url``; tried again, but not begun again after ``patience`` seconds.

    ``peer`` names the server in errors. Raises UndeliveredError, and Failure where its certificate
    is not good.
    """
    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(_AgainError),
        stop=tenacity.stop_after_attempt(_ATTEMPTS) | tenacity.stop_after_delay(patience),
        wait=_WAIT,
        reraise=True,
    )(_once, url, body, headers, peer)


def _once(url: str, body: Mapping[str, Any], headers: Mapping[str, str], peer: str) -> None:
    import asyncio

    import httpx  # takes a tenth of a second, and most runs need none

    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines show the URL

    async def ask() -> int:
        async with (
            # httpx's own bound is that of each read: an answer byte by byte would never end.
            asyncio.timeout(_TIMEOUT),
            httpx.AsyncClient(timeout=None) as client,  # noqa: S113 - the bound above is for all
            client.stream("POST", url, json=body, headers=dict(headers)) as answer,
        ):
            return answer.status_code

    try:
        status = asyncio.run(ask())
    except TimeoutError:
        raise _AgainError(f"expected an answer, found none within {_TIMEOUT:g} s") from None
    except httpx.TransportError as error:
        raise (
            certificate.failure(peer, error)
            or _AgainError(f"expected an answer, found {type(error).__name__}")
        ) from None
    except (httpx.InvalidURL, ValueError):
        raise UndeliveredError("expected a URL, found something else") from None
    if not httpx.codes.is_success(status):
        kind = _AgainError if status in _RETRIED else UndeliveredError
        raise kind(f"expected success, found HTTP status {status}")

"""Asks Nomad to run jobs of one namespace, and how they are: with a token that may do no more."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_delay,
    stop_any,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base

from harmattan.runs.errors import LastingError, PassingError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

# Seconds over which a request is tried again: an election takes some, a cluster's upgrade minutes.
PATIENCE = 600.0
# The same for a log, whose node may be lost.
LOG_PATIENCE = 60.0
# The same for what Nomad refuses: a server that starts again does not know the tokens at first.
REFUSALS = 60.0
# Seconds that a server may take to answer, beside those that it was asked to wait.
TIMEOUT = 15.0
# Bytes of one answer: a job's allocations are some kilobytes each.
LARGEST = 8 * 1024 * 1024
# Bytes of an answer with a log's frames, of 64 KiB at most; the next request has the rest.
PIECE = 512 * 1024


@dataclass(frozen=True)
class Access:
    """Where Nomad is, and the token; ``ca`` is the certificate of the cluster's own CA in PEM."""

    address: str
    namespace: str
    token: str = field(repr=False)
    ca: str | None = None


class _AwayError(Exception):
    """No answer, or one that another try may better."""


class _RefusedError(_AwayError):
    """Nomad knows the token, or not, and does not let it."""


class Nomad:
    """Nomad's API, as far as a run of a job needs it.

    ``access`` is asked at first and after each failure, because tokens end. What fails is tried
    again with growing pauses for ``patience`` seconds, what is refused for ``refusals``; then
    PassingError is raised.
    """

    def __init__(
        self, access: Callable[[], Awaitable[Access]], *, patience: float = PATIENCE,
        refusals: float = REFUSALS,
    ) -> None:  # fmt: skip
        self._ask, self._patience, self._refusals = access, patience, refusals
        self._access: Access | None = None
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._forget()

    async def dispatch(
        self, job: str, meta: dict[str, str], *, key: str, prefix: str
    ) -> tuple[str, bool]:
        """Run the parameterised ``job``; return the id of its child, and whether it is a new one.

        With a ``key`` that Nomad has seen, this is the child that there is. Its id is
        ``<job>/dispatch-<prefix>-…``. Raises LastingError where the job is not there or does not
        take this ``meta``.
        """
        parent = await self.job(job)
        if parent is None:
            raise LastingError(
                f"job {job}: expected it in Nomad's namespace {await self._namespace()},"
                " found none",
                "Deploy it, or mend the name.",
            )
        _check(job, parent, meta)
        answer = await self._request(
            "POST",
            f"/v1/job/{job}/dispatch",
            params={"idempotency_token": key},
            body={"Meta": meta, "IdPrefixTemplate": prefix},
        )
        return str(answer["DispatchedJobID"]), bool(answer["EvalID"])

    async def unfinished(self, job: str, prefix: str) -> list[str]:
        """Return the ids of the children of ``job`` with ``prefix`` that have not ended."""
        answer = await self._request("GET", "/v1/jobs", params={"prefix": _child(job, prefix)})
        return [each["ID"] for each in answer if each["Status"] != "dead"]

    async def job(self, job_id: str, *, index: int = 0, wait: float = 0) -> dict[str, Any] | None:
        """Return the job, None if Nomad has none of that id.

        With the ``index`` of an earlier answer it waits up to ``wait`` seconds for a change.
        """
        params = {"index": str(index), "wait": f"{int(wait * 1000)}ms"} if index else {}
        answer = await self._request("GET", f"/v1/job/{job_id}", params=params, wait=wait)
        return answer if answer is None else dict(answer)

    async def obstacles(self, job_id: str) -> list[str]:
        """Return what keeps a job from being placed, such as ``memory`` or a constraint."""
        answer = await self._request("GET", f"/v1/job/{job_id}/evaluations")
        newest = sorted(answer or (), key=lambda each: each["CreateIndex"])[-1:]
        failed = [each for last in newest for each in (last.get("FailedTGAllocs") or {}).values()]
        kinds = ("DimensionExhausted", "ConstraintFiltered", "ClassFiltered")
        return sorted({what for each in failed for kind in kinds for what in each.get(kind) or ()})

    async def allocations(self, job_id: str) -> list[dict[str, Any]]:
        """Return the job's allocations, oldest first."""
        answer = await self._request("GET", f"/v1/job/{job_id}/allocations")
        return sorted(answer or (), key=lambda each: each["CreateIndex"])

    async def log(self, allocation: str, task: str, stream: str, offset: int) -> bytes:
        """Return a piece of a log from ``offset``; a negative one counts from its end.

        Empty at its end and, too, for a log that is not there yet or no longer. Raises PassingError
        sooner than others, where the node cannot be reached.
        """
        params = {
            "task": task, "type": stream, "offset": str(abs(offset)),
            "origin": "end" if offset < 0 else "start",
        }  # fmt: skip
        path = f"/v1/client/fs/logs/{allocation}"
        answer = await self._request(
            "GET", path, params=params, decode=_frames, most=PIECE,
            patience=min(self._patience, LOG_PATIENCE),
        )  # fmt: skip
        return bytes(answer or b"")

    async def stop(self, job_id: str) -> None:
        """Stop a job; what has ended, or is not there, stays as it is."""
        await self._request("DELETE", f"/v1/job/{job_id}")

    async def _namespace(self) -> str:
        self._access = self._access or await self._ask()
        return self._access.namespace

    async def _request(
        self, method: str, path: str, *, params: dict[str, str] | None = None, wait: float = 0,
        body: object = None, decode: Callable[[bytes], Any] = json.loads, most: int = LARGEST,
        patience: float | None = None,
    ) -> Any:  # fmt: skip
        """Return what ``decode`` makes of ``most`` bytes of the answer; None if there is none."""
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_AwayError),
                stop=stop_any(
                    stop_after_delay(patience or self._patience), _Refused(self._refusals)
                ),
                wait=wait_exponential_jitter(multiplier=0.5, max=15),
                before_sleep=before_sleep_log(log, logging.WARNING),
                reraise=True,
            ):
                with attempt:
                    try:
                        return await self._once(
                            method, path, params or {}, wait, body, decode, most
                        )
                    except _AwayError:
                        await self._forget()
                        raise
        except _AwayError as error:
            raise PassingError(
                f"Nomad: {method} {path}: expected an answer, found: {error}",
                "See that Nomad's servers have a leader, and what the policy of the triggerer's"
                " identity allows.",
            ) from error
        raise AssertionError  # tenacity returns or raises

    async def _once(
        self, method: str, path: str, params: dict[str, str], wait: float, body: object,
        decode: Callable[[bytes], Any], most: int,
    ) -> Any:  # fmt: skip
        try:
            # A blocking query lasts up to a sixteenth longer.
            async with asyncio.timeout(TIMEOUT + wait * 1.1):
                access, http = await self._open()
                async with http.stream(
                    method, path, params={"namespace": access.namespace, **params}, json=body,
                    headers={"X-Nomad-Token": access.token},
                ) as answer:  # fmt: skip
                    return await _read(answer, decode, most)
        except (httpx.TransportError, TimeoutError) as error:
            raise _AwayError(f"{type(error).__name__}: {error}".rstrip(": ")) from error

    async def _open(self) -> tuple[Access, httpx.AsyncClient]:
        access = self._access = self._access or await self._ask()
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=access.address,
                # Nobody's proxy. The cluster's own CA, where it has one, replaces the system's.
                trust_env=False,
                verify=ssl.create_default_context(cadata=access.ca)
                if access.address.startswith("https:")
                else False,
                timeout=httpx.Timeout(TIMEOUT, read=None),  # _once bounds the whole
            )
        return access, self._http

    async def _forget(self) -> None:
        http, self._http, self._access = self._http, None, None
        if http is not None:
            await http.aclose()


async def _read(answer: httpx.Response, decode: Callable[[bytes], Any], most: int) -> Any:
    """Return what is made of the first bytes of an answer, None where nothing is found."""
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) >= most:
            break
    # Servers have no connection to a node, too, while it comes back to a new leader.
    if answer.status_code == httpx.codes.NOT_FOUND and b"No path to" not in body:
        return None
    if not answer.is_success:
        raise _refusal(answer.status_code, bytes(body))
    try:
        return decode(bytes(body))
    except ValueError as error:
        raise _refusal(answer.status_code, bytes(body)) from error


def _refusal(status: int, body: bytes) -> _AwayError:
    """Return what an answer says that is not what was asked for.

    A log's begins with 200 whatever comes.
    """
    said = body[:200].decode("utf-8", "replace").strip()
    refused = {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
    kind = _RefusedError if status in refused or said == "Permission denied" else _AwayError
    return kind(f"HTTP {status}: {said}")


def _frames(body: bytes) -> bytes:
    """Return the data of a log's frames, JSON objects one after another, without a cut last one.

    Raises ValueError where there are none, but text.
    """
    text, at, data = body.decode(), 0, bytearray()
    while at < len(text):
        try:
            frame, at = json.JSONDecoder().raw_decode(text, at)
        except ValueError:
            if at == 0:
                raise
            break
        data += base64.b64decode(frame.get("Data") or "")
    return bytes(data)


class _Refused(stop_base):
    """Ends trying when Nomad still refuses after some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        over = (state.seconds_since_start or 0) > self._seconds
        return over and isinstance(error, _RefusedError)


def _child(job: str, prefix: str) -> str:
    return f"{job}/dispatch-{prefix}-"


def _check(job: str, parent: dict[str, Any], meta: dict[str, str]) -> None:
    """Say what is wrong with a dispatch: Nomad's own refusal looks like a server's fault."""
    takes = parent.get("ParameterizedJob")
    if takes is None:
        raise LastingError(
            f"job {job}: expected a parameterised job, found a {parent.get('Type')} job",
            "Name a job with a `parameterized` block.",
        )
    required, optional = set(takes["MetaRequired"] or ()), set(takes["MetaOptional"] or ())
    if wrong := {*(required - meta.keys()), *(meta.keys() - required - optional)}:
        raise LastingError(
            f"job {job}: expected meta {', '.join(sorted(required)) or 'that is empty'}"
            f"{' and maybe ' + ', '.join(sorted(optional)) if optional else ''}, found"
            f" {', '.join(sorted(meta)) or 'none'} ({', '.join(sorted(wrong))} are wrong)",
            "Give the job the meta that its `parameterized` block names.",
        )
    if parent.get("Stop"):
        raise LastingError(f"job {job}: expected it to take dispatches, found it stopped",
                           "Deploy it.")  # fmt: skip

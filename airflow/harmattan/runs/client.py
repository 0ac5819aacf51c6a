"""Asks Nomad to run jobs of one namespace, and how they are: with a token that may do no more."""

from __future__ import annotations

import asyncio
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
# Tries of what Nomad refuses: a token may just have ended, or not have come to this server yet.
REFUSALS = 4
# Seconds that a server may take to answer, beside those that it was asked to wait.
TIMEOUT = 15.0
# Bytes of one answer: a job's allocations are some kilobytes each.
LARGEST = 8 * 1024 * 1024
# Bytes of a log that are read at once; the next request has the rest.
PIECE = 256 * 1024


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
    again with growing pauses for ``patience`` seconds; then PassingError is raised.
    """

    def __init__(
        self, access: Callable[[], Awaitable[Access]], *, patience: float = PATIENCE
    ) -> None:
        self._ask, self._patience = access, patience
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
        """Return up to PIECE bytes of a log from ``offset``; a negative one counts from its end.

        Empty, too, for a log that is not there yet or no longer.
        """
        params = {
            "task": task, "type": stream, "plain": "true", "offset": str(abs(offset)),
            "origin": "end" if offset < 0 else "start",
        }  # fmt: skip
        path = f"/v1/client/fs/logs/{allocation}"
        answer = await self._request("GET", path, params=params, most=PIECE)
        return bytes(answer or b"")

    async def stop(self, job_id: str) -> None:
        """Stop a job; what has ended, or is not there, stays as it is."""
        await self._request("DELETE", f"/v1/job/{job_id}")

    async def _namespace(self) -> str:
        self._access = self._access or await self._ask()
        return self._access.namespace

    async def _request(
        self, method: str, path: str, *, params: dict[str, str] | None = None, wait: float = 0,
        body: object = None, most: int = 0,
    ) -> Any:  # fmt: skip
        """Return the answer's JSON, or ``most`` bytes of it as they are; None if there is none."""
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(_AwayError),
                stop=stop_any(stop_after_delay(self._patience), _RefusedOften()),
                wait=wait_exponential_jitter(multiplier=0.5, max=15),
                before_sleep=before_sleep_log(log, logging.WARNING),
                reraise=True,
            ):
                with attempt:
                    try:
                        return await self._once(method, path, params or {}, wait, body, most)
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
        self, method: str, path: str, params: dict[str, str], wait: float, body: object, most: int
    ) -> Any:
        try:
            # A blocking query lasts up to a sixteenth longer.
            async with asyncio.timeout(TIMEOUT + wait * 1.1):
                access, http = await self._open()
                async with http.stream(
                    method, path, params={"namespace": access.namespace, **params}, json=body,
                    headers={"X-Nomad-Token": access.token},
                ) as answer:  # fmt: skip
                    return await _read(answer, most)
        except (httpx.TransportError, TimeoutError) as error:
            raise _AwayError(f"{type(error).__name__}: {error}".rstrip(": ")) from error

    async def _open(self) -> tuple[Access, httpx.AsyncClient]:
        access = self._access = self._access or await self._ask()
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=access.address,
                # Nobody's proxy, and no certificates but the system's and the cluster's own.
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


async def _read(answer: httpx.Response, most: int) -> Any:
    """Return the JSON or the bytes of an answer, None where nothing is found."""
    if answer.status_code == httpx.codes.NOT_FOUND:
        return None
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if most and len(body) >= most and answer.is_success:
            return bytes(body[:most])
        if len(body) > LARGEST:
            raise _AwayError(f"more than {LARGEST} bytes")
    if not answer.is_success:
        said = f"HTTP {answer.status_code}: {body[:200].decode('utf-8', 'replace').strip()}"
        refused = answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}
        raise _RefusedError(said) if refused else _AwayError(said)
    return bytes(body) if most else json.loads(body)


class _RefusedOften(stop_base):
    """Ends trying when Nomad has refused often enough."""

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return isinstance(error, _RefusedError) and state.attempt_number >= REFUSALS


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

"""Plays the faults around the application: it stands between uvicorn and the routes."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import B2Error
from .faults import DAMAGES, Fault

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from .service import Service

_CODES = {
    401: "expired_auth_token",
    408: "request_timeout",
    429: "too_many_requests",
    503: "service_unavailable",
}
_FOR_EVER = 24 * 3600  # seconds
_WRONG_SHA1 = "da39a3ee5e6b4b0d3255bfef95601890afd80709"[::-1]


class AbortableProtocol(H11Protocol):
    """HTTP as uvicorn speaks it, which lets a fault reach for the connection itself."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the connection where the application finds it: in the state of each request."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


class FaultInjector:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, with the fault that it meets."""
        send = self._dated(send)
        operation = operation_of(scope)
        fault = None if operation is None else self._service.faults.take(operation)
        if fault is None:
            await self._app(scope, receive, send)
            return
        await self._play(fault, scope, receive, send)

    async def _play(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.kind == "status":
            await _answer_status(fault, send)
        elif fault.kind == "delay":
            await asyncio.sleep(fault.seconds or 0)
            await self._app(scope, receive, send)
        elif fault.kind == "close":
            await _close(scope)
        elif fault.kind == "close_mid_body":
            await self._close_mid_body(scope, receive, send)
        elif fault.kind == "hang":
            await asyncio.sleep(_FOR_EVER)
        elif fault.kind == "hang_mid_body":
            await self._app(scope, receive, _half(send, lambda: asyncio.sleep(_FOR_EVER)))
        elif fault.kind == "lose_answer":
            await self._app(scope, receive, _swallow)
            await _close(scope)
        elif fault.kind == "empty_answer":
            await self._app(scope, receive, _swallow)
            headers = [(b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body"})
        elif fault.kind == "wrong_sha1":
            await self._app(scope, receive, _with_wrong_sha1(send))
        elif fault.kind in DAMAGES:
            await self._app(scope, receive, self._damaging(fault, send))

    async def _close_mid_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close after half the request's body if it has one, else after half the answer's."""
        half = _length(scope["headers"]) // 2
        if half:
            while half > 0:
                message = await receive()
                half -= len(message.get("body", b""))
                if message["type"] == "http.disconnect":
                    return
            await _close(scope)
            return

        async def close() -> None:
            scope["state"]["transport"].close()  # not abort: the half that was sent shall arrive

        await self._app(scope, receive, _half(send, close))

    def _dated(self, send: Send) -> Send:
        """Tell the time of the server's own clock, as B2 does in every answer."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = formatdate(self._service.clock.now_ms() / 1000, usegmt=True).encode()
                message = {**message, "headers": [*message["headers"], (b"date", date)]}
            await send(message)

        return send_dated

    def _damaging(self, fault: Fault, send: Send) -> Send:
        async def damage_then_send(message: Message) -> None:
            if message["type"] == "http.response.body" and message.get("body"):
                file_id = json.loads(message["body"]).get("fileId")
                if file_id is not None:
                    damage(self._service, fault, file_id)
            await send(message)

        return damage_then_send


def damage(service: Service, fault: Fault, file_id: str) -> None:
    """Change a stored file's bytes behind its back."""
    if fault.kind == "flip_bit":
        service.files.flip_bit(file_id, fault.offset or 0)
    else:
        service.files.truncate(file_id, fault.length or 0)


def operation_of(scope: Scope) -> str | None:
    """Return the name of the call that a request makes, without ``b2_``."""
    if scope["type"] != "http":
        return None
    first, _, rest = scope["path"].lstrip("/").partition("/")
    if first == "file":
        return "download_file_by_name"
    name: str = rest.partition("/")[2].partition("/")[0]
    return name.removeprefix("b2_") if first == "b2api" else None


async def _close(scope: Scope) -> None:
    scope["state"]["transport"].abort()
    # uvicorn learns of it in the loop's next round; before, it would answer 500.
    await asyncio.sleep(0.01)


def _half(send: Send, then: Callable[[], Awaitable[None]]) -> Send:
    """Send the first half of an answer's body, and then do something else."""
    left = 0

    async def send_half(message: Message) -> None:
        nonlocal left
        if message["type"] == "http.response.start":
            left = _length(message["headers"]) // 2
            await send(message)
            return
        chunk = message.get("body", b"")[:left]
        left -= len(chunk)
        if chunk:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if not left:
            await then()

    return send_half


async def _swallow(message: Message) -> None:
    del message


async def _answer_status(fault: Fault, send: Send) -> None:
    status = fault.status or 503
    code = fault.code or _CODES.get(status, "bad_request")
    error = B2Error(status, code, fault.message or "a fault that the test asked for")
    headers = [(b"content-type", b"application/json")]
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    body = json.dumps(error.body()).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_wrong_sha1(send: Send) -> Callable[[Message], Awaitable[None]]:
    """Replace contentSha1 in a JSON answer (of the same length), or the header of a download."""
    wrong = _WRONG_SHA1.encode()

    async def send_wrong(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = message["headers"]
            message = {**message, "headers": [
                (name, wrong if name == b"x-bz-content-sha1" else value) for name, value in headers
            ]}  # fmt: skip
        elif b'"contentSha1"' in message.get("body", b"")[:4096]:
            body: dict[str, Any] = json.loads(message["body"])
            told = str(body["contentSha1"]).encode()
            message = {**message, "body": message["body"].replace(told, wrong)}
        await send(message)

    return send_wrong


def _length(headers: list[tuple[bytes, bytes]]) -> int:
    return next((int(value) for name, value in headers if name == b"content-length"), 0)

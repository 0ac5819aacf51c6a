"""The one HTTP server of the tests: real, on loopback, with answers that a test gives it."""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from ssl import SSLContext


@dataclass(frozen=True)
class Answer:
    """A response; with status 0 the request is taken and never answered."""

    status: int = 200
    body: Any = b""  # bytes go as they are, everything else as JSON
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    path: str
    headers: dict[str, str]


class HttpServer:
    """Gives its answers and keeps what was asked.

    Attributes:
        requests: all requests, in the order in which they came.
        posts: the bodies of those that brought JSON.
        port: where it listens on 127.0.0.1; 0 if on a Unix socket.

    """

    def __init__(self, *answers: Answer | Callable[[Request], Answer]) -> None:
        self.requests: list[Request] = []
        self.posts: list[Any] = []
        self.port = 0
        self.ending = threading.Event()
        self._by_path: dict[str, list[Answer | Callable[[Request], Answer]]] = {}
        self.answer(*answers or (Answer(),))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def answer(self, *answers: Answer | Callable[[Request], Answer], path: str = "") -> None:
        """Give these in turn and the last for ever; at ``path``, or at all paths without one.

        A function is asked for its answer to the request.
        """
        self._by_path[path] = list(answers)

    def take(self, request: Request, body: bytes) -> Answer:
        """Note a request and return its answer."""
        self.requests.append(request)
        if body.startswith(b"{"):
            self.posts.append(json.loads(body))
        answers = self._by_path.get(request.path, self._by_path[""])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer if isinstance(answer, Answer) else answer(request)


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def http_server(
    *answers: Answer | Callable[[Request], Answer],
    port: int = 0,
    socket: Path | None = None,
    tls: SSLContext | None = None,
) -> Iterator[HttpServer]:
    """Serve on ``port`` of 127.0.0.1 (0: a free one), or on a Unix socket; without answers 200."""
    served = HttpServer(*answers)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            given = served.take(Request(self.path, dict(self.headers)), body)
            if not given.status:
                served.ending.wait()
                return
            content = (
                given.body if isinstance(given.body, bytes) else json.dumps(given.body).encode()
            )
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with _Unix(str(socket), Handler) if socket else _Tcp(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        served.port = 0 if socket else int(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield served
        finally:
            served.ending.set()
            server.shutdown()
            thread.join()

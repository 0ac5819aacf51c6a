"""A real HTTP server on loopback, of the test's own, that keeps what is asked of it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Webhook(ThreadingHTTPServer):
    """Answers with each of ``statuses`` in turn and then with the last; 0 is no answer at all."""

    def __init__(self, *statuses: int, headers: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.headers = headers
        self.posts: list[dict[str, Any]] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append(json.loads(body))
        self.do_GET()

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        statuses = self.server.statuses
        status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        if not status:
            self.server.closing.wait()
            return
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"noted")

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def webhook(*statuses: int, headers: dict[str, str] | None = None) -> Iterator[Webhook]:
    with Webhook(*(statuses or (200,)), headers=headers or {}) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()

"""A git server on https that asks for a login: git's own http-backend behind Python's TLS."""

from __future__ import annotations

import base64
import os
import re
import ssl
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.tls import Authority

_SECRET = re.compile(r"\{\{ with secret .*\{\{ end \}\}")


@dataclass
class GitServer:
    """Where it is, who may read and push, and the answers that it gave.

    ``asked`` is called at each request, while the client waits.
    """

    url: str
    login: str  # USER:TOKEN
    answers: list[int] = field(default_factory=list)
    asked: Callable[[], None] = lambda: None

    def header(self) -> str:
        return base64.b64encode(self.login.encode()).decode()

    def config(self, template: str, file: Path) -> Path:
        """Write git's configuration as the template of a job renders it, with this login."""
        text, count = _SECRET.subn(self.header(), template)
        assert count == 1
        file.write_text(text)
        return file


@contextmanager
def git_https(
    root: Path, folder: Path, authority: Authority, login: str, *, expired: bool = False
) -> Iterator[GitServer]:
    """Serve the repositories below ``root`` to those who log in; its files go into ``folder``."""
    served = GitServer("", login)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            served.asked()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != f"Basic {served.header()}":
                self.answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"")
                return
            path, _, query = self.path.partition("?")
            done = subprocess.run(
                ["git", "http-backend"], input=body, capture_output=True, check=True, timeout=60,
                env={
                    "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root),
                    "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path, "QUERY_STRING": query,
                    "REMOTE_USER": served.login.partition(":")[0],
                    "REQUEST_METHOD": self.command, "HTTP_CONTENT_ENCODING":
                    self.headers.get("Content-Encoding", ""),
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                },
            )  # fmt: skip
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            status = int(headers.pop("Status", "200").split()[0])
            self.answer(status, list(headers.items()), content)

        do_POST = do_GET  # noqa: N815

        def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            served.answers.append(status)
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(folder, expired=expired))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        served.url = f"https://127.0.0.1:{serving.server_address[1]}"
        serving.socket = context.wrap_socket(
            serving.socket, server_side=True, do_handshake_on_connect=False
        )
        thread = threading.Thread(target=serving.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield served
        finally:
            serving.shutdown()
            thread.join()

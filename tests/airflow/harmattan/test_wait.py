from __future__ import annotations

import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from harmattan import wait
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server(ThreadingHTTPServer):
    """Answers everything with :attr:`status`."""

    status = 200
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def serve(port: int) -> Server:
    server = Server(("127.0.0.1", port), Handler)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def service() -> Iterator[Server]:
    server = serve(0)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "LIMIT", 1.0)
    monkeypatch.setattr(wait, "PAUSE", 0.05)


def run(monkeypatch: pytest.MonkeyPatch, port: int) -> float:
    """Wait for the port and return how long it took, in seconds."""
    monkeypatch.setattr(sys, "argv", ["wait", f"http://127.0.0.1:{port}/health"])
    started = time.monotonic()
    wait.main()
    return time.monotonic() - started


@pytest.mark.usefixtures("quick")
def test_a_service_that_answers_is_asked_once(
    service: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch, service.server_address[1]) < 1
    assert service.asked == 1


@pytest.mark.usefixtures("quick")
def test_a_service_that_comes_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    port, servers = free_port(), []

    def later() -> None:
        time.sleep(0.4)
        servers.append(serve(port))

    Thread(target=later).start()
    assert 0.3 < run(monkeypatch, port) < 1.2
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.usefixtures("quick")
def test_nothing_there_is_a_clear_error_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    port, started = free_port(), time.monotonic()
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, port)
    assert 0.9 < time.monotonic() - started < 20
    # sys.exit with a text prints it and ends with 1.
    text = str(ended.value.code)
    assert text.startswith(f"http://127.0.0.1:{port}/health did not answer within 1 s\nHINT: ")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_answer_that_is_no_success_is_none(
    service: Server, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    service.status = status
    with pytest.raises(SystemExit):
        run(monkeypatch, service.server_address[1])
    assert service.asked > 5


@pytest.mark.parametrize("words", [b"SSH-2.0-OpenSSH_9.2\r\n", b"", b"HTTP/1.1 \r\n\r\n"])
def test_something_that_speaks_no_http_is_no_answer(words: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(words)

        thread = Thread(target=talk)
        thread.start()
        assert wait.answers(f"http://127.0.0.1:{listener.getsockname()[1]}/") is False
        thread.join(5)


def test_a_service_that_takes_the_question_and_says_nothing_is_given_five_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        assert wait.answers(f"http://127.0.0.1:{listener.getsockname()[1]}/") is False
        assert 4 < time.monotonic() - started < 30


def test_ten_minutes_are_the_limit() -> None:
    assert wait.LIMIT == 600

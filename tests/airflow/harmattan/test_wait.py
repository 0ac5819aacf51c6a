from __future__ import annotations

import socket
import ssl
import sys
import time
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from harmattan import wait
from tests.conftest import free_port
from tests.http_server import Answer, http_server
from tests.tls import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.http_server import HttpServer


@pytest.fixture
def service() -> Iterator[HttpServer]:
    with http_server() as served:
        yield served


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
    service: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, service.port)
    assert len(service.requests) == 1


@pytest.mark.usefixtures("quick")
def test_a_service_that_comes_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "LIMIT", 60.0)
    port, answered = free_port(), Event()

    def later() -> None:
        time.sleep(0.4)
        with http_server(port=port):
            answered.wait(60)

    thread = Thread(target=later)
    thread.start()
    try:
        assert run(monkeypatch, port) > 0.3
    finally:
        answered.set()
        thread.join()


@pytest.mark.usefixtures("quick")
def test_nothing_there_is_a_clear_error_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    port, started = free_port(), time.monotonic()
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, port)
    assert 0.9 < time.monotonic() - started < 20
    # sys.exit with a text prints it and ends with 1.
    text = str(ended.value.code)
    assert text.startswith(f"http://127.0.0.1:{port}/health did not answer within 1 s: ")
    assert "Connection refused\nHINT: " in text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("status", [404, 500, 503])
def test_an_answer_that_is_no_success_is_none(
    service: HttpServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    service.answer(Answer(status))
    with pytest.raises(SystemExit):
        run(monkeypatch, service.port)
    assert len(service.requests) > 1


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
        assert wait.fault(f"http://127.0.0.1:{listener.getsockname()[1]}/")[0]
        thread.join(5)


@pytest.mark.slow
def test_a_service_that_takes_the_question_and_says_nothing_is_given_five_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        started = time.monotonic()
        assert wait.fault(f"http://127.0.0.1:{listener.getsockname()[1]}/")[0]
        assert 4 < time.monotonic() - started < 30


@pytest.mark.usefixtures("quick")
def test_a_certificate_that_is_not_trusted_is_told_at_once_and_given_up_sooner(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wait, "LIMIT", 60.0)
    monkeypatch.setattr(wait, "LASTING", 0.3)
    authority, own = Authority(), tmp_path / "own.pem"
    own.write_text(authority.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(tmp_path))
    with http_server(tls=context) as served:
        monkeypatch.setattr(sys, "argv", ["wait", f"https://127.0.0.1:{served.port}/health"])
        with pytest.raises(SystemExit, match="its certificate is not trusted"):
            wait.main()
        assert capsys.readouterr().out.count("its certificate is not trusted") == 1
        monkeypatch.setenv("SSL_CERT_FILE", str(own))
        wait.main()


def test_ten_minutes_are_the_limit() -> None:
    assert wait.LIMIT == 600

"""Whose word on how a request came is believed, by requests from several addresses."""

from __future__ import annotations

import http.client
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from werkzeug.serving import make_server

from dashboards.proxy import KnownProxies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SAID = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.1.2.3", "X-Forwarded-Host": "bi"}


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [])
    told = (environ[name] for name in ("wsgi.url_scheme", "REMOTE_ADDR", "HTTP_HOST"))
    return [" ".join(told).encode()]


@pytest.fixture
def port() -> Iterator[int]:
    server = make_server("127.0.0.1", 0, KnownProxies(echo, "127.0.0.2, 127.1.0.0/16"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "believed"), [("127.0.0.1", False), ("127.0.0.2", True), ("127.1.7.8", True)]
)
def test_a_known_proxy_is_believed_and_nobody_else(port: int, address: str, believed: bool) -> None:
    with closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=10, source_address=(address, 0))
    ) as asked:
        asked.request("GET", "/", headers=SAID)
        found = asked.getresponse().read().decode()
    assert found == ("https 10.1.2.3 bi" if believed else f"http {address} 127.0.0.1:{port}")

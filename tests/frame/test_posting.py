"""Posts to servers that answer in other ways than one hopes for."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from frame import posting


def test_an_answer_that_comes_byte_by_byte_and_never_ends_is_none() -> None:
    ended = threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not ended.wait(1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        begun = time.monotonic()
        with pytest.raises(posting.UndeliveredError, match="none within 10 s"):
            posting.post(url, {}, {}, peer="forge", patience=0)
        assert time.monotonic() - begun < 20
        ended.set()

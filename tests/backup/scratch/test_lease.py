from __future__ import annotations

import os
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.scratch.lease import (
    LONGEST_LINE,
    Answer,
    Garbled,
    Needs,
    Ready,
    peer_uid,
    read_line,
    write_line,
)

TEXT = st.text(min_size=1, max_size=50)


@given(
    st.builds(
        Needs,
        major=st.integers(1, 99),
        superuser=TEXT,
        settings=st.dictionaries(TEXT, TEXT, max_size=5),
    )
)
def test_what_is_written_is_read(needs: Needs) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        write_line(ours, needs, 1)
        assert read_line(theirs, Needs, 1) == needs


@given(st.binary(max_size=200))
def test_anything_else_is_garbled_and_never_an_error_of_another_kind(block: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(block)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(Garbled):
            read_line(theirs, Needs, 1)


def test_a_line_without_end_is_cut_and_one_that_drips_has_its_time() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        threading.Thread(target=ours.sendall, args=(b"x" * (LONGEST_LINE + 1),)).start()
        with pytest.raises(Garbled, match="too long"):
            read_line(theirs, Needs, 5)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.05):
                ours.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        began = time.monotonic()
        with pytest.raises(Garbled, match=r"no answer in 0\.5 seconds"):
            read_line(theirs, Needs, 0.5)
        assert time.monotonic() - began < 10
        stop.set()
        thread.join()


def test_a_password_does_not_show_itself() -> None:
    assert "hush" not in repr(Answer(ready=Ready(major=15, password="hush")))  # noqa: S106


def test_the_peer_is_known_by_the_kernel() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()

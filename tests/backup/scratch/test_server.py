"""The client of a scratch server: whom it asks, and what it gives away to whom it should not."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backup.scratch import server as module
from backup.scratch.lease import CONTROL, Needs
from backup.scratch.server import ScratchServer, scratch_server
from backup.settings import Settings
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER_PASSWORD = "of-this-lease"  # noqa: S105
# A supervisor of another user that says one thing.
FALSE = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen()
client, _ = listener.accept()
client.recv(9999)
client.sendall(sys.argv[2].encode())
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path that everybody may write to."""
    made = Path(tempfile.mkdtemp(prefix="bk-", dir="/tmp"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def settings(directory: Path | None) -> Settings:
    return Settings(
        secrets_dir=Path("/"), b2_realm="production", bucket="bucket", prefix="local",
        scratch_server=directory,
    )  # fmt: skip


def lease(directory: Path | None) -> None:
    with scratch_server(settings(directory), Needs(major=15)):
        pytest.fail("leased")


def test_without_a_server_it_is_told_how_to_start_one() -> None:
    with pytest.raises(WrongUse, match="BACKUP_SCRATCH_SERVER is not set") as caught:
        lease(None)
    assert "`backup scratch-server DIRECTORY`" in caught.value.hint


def test_a_server_that_is_not_up_is_waited_for_and_then_told(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CONTROL_SECONDS", 0.3)
    with pytest.raises(WrongUse, match=r"no scratch server answers at .*/control: No such file"):
        lease(directory)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / CONTROL))
    with pytest.raises(WrongUse, match="Connection refused"):
        lease(directory)


def test_a_server_of_the_same_user_is_refused(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / CONTROL))
        listener.listen()
        with pytest.raises(WrongUse, match="runs as this user, whose key it could read"):
            lease(directory)


@pytest.mark.programs
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", "gave no answer: the connection ended"),
        ("nonsense\n", "gave no answer: not understood"),
        ("{}\n", "gave no answer"),
        ('{"ready": {"major": 15}}\n', r"not understood: ready\.password"),
        ('{"refused": {"message": "no room", "hint": "Make some."}}\n', "no room"),
    ],
)
def test_a_false_answer_is_no_lease(directory: Path, answer: str, words: str) -> None:
    false = subprocess.Popen(
        ["setpriv", "--reuid=nobody", "--clear-groups", sys.executable, "-c", FALSE,
         directory / CONTROL, answer],
        cwd="/",
    )  # fmt: skip
    try:
        with pytest.raises(Failure, match=words):
            lease(directory)
    finally:
        false.kill()
        false.wait()


@pytest.mark.parametrize("kind", [3, 5, 7], ids=["in clear", "as MD5", "by GSS"])
def test_a_false_server_is_told_no_password(directory: Path, kind: int) -> None:
    """One that strangers put in the place of theirs, and that asks for less than SCRAM."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / ".s.PGSQL.5432"))
        listener.listen()

        def ask() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(9999)
                salt = b"salt" if kind == 5 else b""
                client.sendall(b"R" + struct.pack("!ii", 8 + len(salt), kind) + salt)
                heard.append(client.recv(9999))

        thread = threading.Thread(target=ask)
        thread.start()
        server = ScratchServer(directory, 15, "postgres", SERVER_PASSWORD)
        with pytest.raises(Failure, match="no connection to database hr"):
            server.uri("hr").connect("test")
        thread.join()
    assert heard in ([b""], [])
    assert SERVER_PASSWORD not in repr(server)

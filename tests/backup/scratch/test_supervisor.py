from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backup.scratch import supervisor as module
from backup.scratch.lease import CONTROL, Needs
from backup.scratch.server import scratch_server
from backup.settings import Settings
from frame.failure import Failure, WrongUse
from tests.backup.conftest import ROOT, descendants, eventually, program, start_scratch_server
from tests.conftest import PG_ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.scratch.server import ScratchServer

pytestmark = pytest.mark.programs

# A client that is killed in the middle of its lease.
CLIENT = """
import sys, time
from pathlib import Path
from backup.scratch.lease import Needs
from backup.scratch.server import scratch_server
from backup.settings import Settings
settings = Settings(secrets_dir=Path("/"), b2_realm="production", bucket="bucket", prefix="local",
                    scratch_server=Path(sys.argv[1]))
with scratch_server(settings, Needs(major=15)) as server:
    print("leased", flush=True)
    time.sleep(600)
"""


class Running:
    """A supervisor of the user nobody, its process and its directories."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(
            secrets_dir=home, b2_realm="production", bucket="bucket", prefix="local",
            scratch_server=home / "sockets",
        )  # fmt: skip
        self.start()

    def start(self, *words: str | Path) -> None:
        with (self.home / "log").open("a") as written:
            self.process = start_scratch_server(self.home, *words, log=written)
        eventually((self.home / "sockets" / CONTROL).exists)

    @property
    def pid(self) -> int:
        """The supervisor itself, which is process 1 in its namespace."""
        (first,) = eventually(lambda: descendants(self.process.pid)[:1])
        return int(first)

    def others(self) -> list[str]:
        """The programs of all that runs beside the supervisor."""
        return [program(pid) for pid in descendants(self.pid)]

    def left(self) -> list[str]:
        """What is in the directories beside the control socket."""
        folders = [self.home / name for name in ("sockets", "data", "tmp")]
        return sorted({path.name for folder in folders for path in folder.iterdir()} - {CONTROL})

    def lease(self, **needs: Any) -> Any:
        return scratch_server(self.settings, Needs(**{"major": 15, **needs}))

    def end(self) -> None:
        supervisor = descendants(self.process.pid)[:1]
        self.process.kill()
        self.process.wait()
        eventually(lambda: not any(map(program, supervisor)))


@contextmanager
def started() -> Iterator[Running]:
    home = Path(tempfile.mkdtemp(prefix="bks-", dir="/tmp"))
    home.chmod(0o755)
    made = Running(home)
    try:
        yield made
    finally:
        made.end()
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """A supervisor that serves one test after another, as it does one drill after another."""
    with started() as made:
        yield made


@pytest.fixture
def mortal() -> Iterator[Running]:
    """A supervisor of the test's own, to be stopped, killed or started otherwise."""
    with started() as made:
        yield made


def segments(running: Running) -> int:
    """How many segments of System V's shared memory there are beside the supervisor."""
    listed = subprocess.run(
        ["nsenter", "--ipc", f"--target={running.pid}", "cat", "/proc/sysvipc/shm"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return len(listed.stdout.splitlines()) - 1


def ask(server: ScratchServer, query: str) -> Any:
    with server.uri("postgres").connect("test") as connection:
        (row,) = connection.execute(query.encode()).fetchall()
        return row[0]


def test_a_lease_is_an_empty_server_as_production_has_it_and_nothing_is_left(
    running: Running,
) -> None:
    with running.lease(settings={"max_locks_per_transaction": "256"}, superuser="boss") as server:
        shown = {
            name: ask(server, f"SHOW {name}")
            for name in ("fsync", "full_page_writes", "synchronous_commit", "wal_level")
        }
        assert shown == {
            "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
            "wal_level": "replica",
        }  # fmt: skip
        assert ask(server, "SHOW listen_addresses") == ""
        assert ask(server, "SHOW max_locks_per_transaction") == "256"
        assert ask(server, "SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolsuper") == "boss"
        assert "postgres" in running.others()
        with server.uri("postgres").connect("test") as connection:
            connection.execute("CREATE TABLE public.t (line text)")
            leave = "cd /; setsid sleep 600 > /dev/null 2>&1 & touch {}".format
            for folder in ("sockets", "data", "tmp"):
                path = running.home / folder / "left"
                connection.execute(f"COPY public.t FROM PROGRAM '{leave(path)}'".encode())
        eventually(lambda: running.others().count("sleep") == 3)
        assert {"left", "data"} <= {*running.left()}
        assert segments(running) == 1, "PostgreSQL's own"
    assert (running.others(), running.left(), segments(running)) == ([], [], 0)
    with running.lease() as server:
        assert ask(server, "SELECT count(*) FROM pg_database") == 3


def test_a_client_that_is_killed_takes_its_server_with_it(running: Running) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, running.home / "sockets"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdout is not None
    assert client.stdout.readline() == "leased\n"
    assert "postgres" in running.others()
    client.kill()
    client.communicate()
    eventually(lambda: not running.others() and not running.left())
    with running.lease() as server:
        assert ask(server, "SELECT 1") == 1


def test_a_second_client_waits_for_the_first_and_meets_nothing_of_it(running: Running) -> None:
    told: list[Any] = []

    def second() -> None:
        with running.lease() as server:
            told.append(ask(server, "SELECT to_regclass('public.first')"))

    thread = threading.Thread(target=second)
    with running.lease() as server:
        with server.uri("postgres").connect("test") as connection:
            connection.execute("CREATE TABLE public.first ()")
        thread.start()
        time.sleep(0.5)
        assert not told
    thread.join(30)
    assert told == [None]


def say(running: Running, line: bytes) -> bytes:
    """Send a line to the control socket and return the answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(running.home / "sockets" / CONTROL))
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        return client.recv(10_000)


def test_garbage_is_refused_and_the_next_client_is_served(running: Running) -> None:
    for line in (
        b"\n", b"{}\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b'{"major": 15',
        b'{"major": "x"}\n', b'{"major": 15, "more": 1}\n', b"x" * 100_000, b"",
    ):  # fmt: skip
        refused = json.loads(say(running, line))["refused"]
        assert "got no request" in refused["message"], line
    for needs, words in (
        ({"encoding": "KLINGON"}, "cannot be made"),
        ({"superuser": "pg_mine"}, "cannot be made"),
        ({"locale": "xx_XX"}, "cannot be made"),
        ({"settings": {"fsync": "perhaps"}}, "did not start: .*fsync"),
    ):
        with pytest.raises(Failure, match=f"scratch server {words}"), running.lease(**needs):
            pass
    assert (running.others(), running.left()) == ([], [])
    with running.lease() as server:
        assert ask(server, "SELECT 1") == 1


def test_the_version_asked_for_is_served_or_the_next_newer_one(running: Running) -> None:
    with running.lease(major=13) as server:
        assert server.major == 15
        assert ask(server, "SHOW server_version").startswith("15.")
    with (
        pytest.raises(Failure, match=r"no server of PostgreSQL 99 or newer in \S+: there") as told,
        running.lease(major=99),
    ):
        pass
    assert "PG_MAJORS" in told.value.hint


def test_extensions_are_loaded_that_must_be_and_are_there(running: Running) -> None:
    extensions = ("pg_stat_statements", "hstore", "pg_cron_of_somebody", "pgaudit")
    with running.lease(extensions=extensions) as server:
        assert ask(server, "SHOW shared_preload_libraries") == "pg_stat_statements"


def test_a_server_that_ends_before_its_time_is_told(running: Running) -> None:
    def kill() -> None:
        with running.lease() as server, server.uri("postgres").connect("test") as connection:
            connection.execute("CREATE TABLE public.t (line text)")
            connection.execute("COPY public.t FROM PROGRAM 'kill -9 -1'")

    with pytest.raises(Failure, match="scratch server ended before its time"):
        kill()
    with running.lease() as server:
        assert ask(server, "SELECT 1") == 1


def test_a_disk_that_is_full_is_told_and_emptied(mortal: Running) -> None:
    data = mortal.home / "data"
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=10m,uid=65534,mode=700", "backup-test", data],
        check=True,
    )
    try:
        mortal.end()
        mortal.start()
        with (
            pytest.raises(Failure, match=r"cannot be made: .*No space left on device") as caught,
            mortal.lease(),
        ):
            pass
        assert "disk of the scratch server" in caught.value.hint
        assert os.listdir(data) == []
    finally:
        mortal.end()
        subprocess.run(["umount", data], check=True)


def test_a_stop_in_a_lease_ends_at_once_and_leaves_nothing(mortal: Running) -> None:
    with pytest.raises(Failure, match="ended with its supervisor"), mortal.lease() as server:
        os.kill(mortal.pid, signal.SIGTERM)
        assert mortal.process.wait(20) == 0
        assert not any(path.iterdir() for path in (mortal.home / "data", mortal.home / "tmp"))
        assert os.listdir(mortal.home / "sockets") == []
        ask(server, "SELECT 1")


def test_what_a_killed_supervisor_left_goes_with_the_next_lease(mortal: Running) -> None:
    with suppress(Failure), mortal.lease():
        os.kill(mortal.pid, signal.SIGKILL)
        mortal.process.wait(20)
        assert "data" in mortal.left()
        (mortal.home / "data" / "mine").write_text("another user's")
        raise Failure("over", "")
    mortal.start()
    with mortal.lease() as server:
        assert ask(server, "SELECT 1") == 1
    assert mortal.left() == ["mine"], "no business of nobody's"


def test_a_control_socket_that_was_taken_away_comes_back(running: Running) -> None:
    with running.lease():
        (running.home / "sockets" / CONTROL).rename(running.home / "sockets" / "old")
        (running.home / "sockets" / CONTROL).write_text("false")
        shutil.chown(running.home / "sockets" / CONTROL, "nobody")
    with running.lease() as server:
        assert ask(server, "SELECT 1") == 1
    assert running.left() == []


def test_two_servers_with_one_disk_have_it_in_turn(running: Running) -> None:
    home = running.home / "other"
    home.mkdir()
    home.chmod(0o755)
    other = start_scratch_server(home, "--scratch", running.home / "data")
    settings = running.settings.model_copy(update={"scratch_server": home / "sockets"})
    told: list[Any] = []

    def second() -> None:
        with scratch_server(settings, Needs(major=15)) as server:
            told.append(ask(server, "SELECT 1"))

    thread = threading.Thread(target=second)
    try:
        with running.lease() as server:
            thread.start()
            eventually((home / "sockets" / CONTROL).exists)
            time.sleep(1)
            assert not told
            assert ask(server, "SELECT 2") == 2
        thread.join(30)
        assert told == [1]
    finally:
        other.kill()
        other.wait()


def test_the_sweep_empties_the_disk_of_a_server_that_was_killed(
    tmp_path: Path, running: Running
) -> None:
    data = tmp_path / "data"
    (data / "deep").mkdir(parents=True)
    module.sweep_data(data)
    assert os.listdir(data) == []
    with running.lease() as server:
        module.sweep_data(running.home / "data")
        assert ask(server, "SELECT 1") == 1


REFUSALS: dict[str, tuple[tuple[str, ...], str]] = {
    "as root": ((), "runs as root"),
    "beside other processes": (("setpriv", "--reuid=nobody"), "not the first process"),
    "with a network": (
        ("unshare", "--fork", "--pid", "--mount-proc", "setpriv", "--reuid=nobody"),
        "reaches a network",
    ),
}


@pytest.mark.parametrize(("prefix", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_it_does_not_start(tmp_path: Path, prefix: tuple[str, ...], words: str) -> None:
    ended = subprocess.run(
        [*prefix, sys.executable, "-P", "-m", "backup", "scratch-server", tmp_path],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "BACKUP_SCRATCH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, cwd="/", check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "--network none" in ended.stderr


def test_directories_of_others_are_refused(tmp_path: Path) -> None:
    mine, others = tmp_path / "mine", tmp_path / "others"
    others.mkdir()
    shutil.chown(others, "nobody")
    for sockets, data, words in (
        (others, mine, "is not this user's alone"),
        (mine, others, "is not this user's alone"),
        (Path("/proc/none"), mine, "cannot be used"),
        (tmp_path / ("x" * 80), mine, "too long a path"),
    ):
        with pytest.raises(WrongUse, match=words):
            module.Place(sockets, data, PG_ROOT).prepare()


def test_what_holds_the_servers_own_directories_is_not_wiped(tmp_path: Path) -> None:
    sockets, data = tmp_path / "some/sockets", tmp_path / "other/data"
    for wiped in (tmp_path, data, data.parent, sockets):
        with pytest.raises(WrongUse, match="holds the server's own"):
            module.Place(sockets, data, PG_ROOT, (wiped,)).prepare()
    module.Place(sockets, data, PG_ROOT, (sockets.parent,)).prepare()


def test_the_user_of_the_server_leases_none(running: Running) -> None:
    """Neither by the drill's own client nor, as a stranger there might try, without it."""
    as_nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    sockets = running.home / "sockets"
    ended = subprocess.run(
        [*as_nobody, sys.executable, "-P", "-c", CLIENT, sockets],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, cwd="/",
        timeout=60, check=False,
    )  # fmt: skip
    assert "runs as this user, whose key it could read" in ended.stderr
    bare = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); print(s.recv(9999))"
    ended = subprocess.run(
        [*as_nobody, sys.executable, "-c", bare, sockets / CONTROL],
        capture_output=True, text=True, cwd="/", timeout=60, check=False,
    )  # fmt: skip
    assert "leases nothing to its own user" in ended.stdout

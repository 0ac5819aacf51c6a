"""A server of one's own, made by somebody who is not root."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import WrongUse
from frame.progress import step
from ingest import desk

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.programs


def as_nobody(work: Callable[[Path], None]) -> None:
    """Do ``work`` in a forked process as user nobody, in a folder of theirs; it must not fail."""
    nobody = pwd.getpwnam("nobody")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, step("load what a step needs"):
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.chdir(folder)
                os.setgroups([])
                os.setresgid(*[nobody.pw_gid] * 3)
                os.setresuid(*[nobody.pw_uid] * 3)
                os.environ.update(USER="nobody", LOGNAME="nobody", TMPDIR=folder)
                work(Path(folder) / ".try")
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert status == 0


def lives(pid: int) -> bool:
    """Return whether a process runs; one that is dead and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_server_is_made_once_keeps_its_data_and_ends_with_its_command() -> None:
    def work(home: Path) -> None:
        with desk.server(home) as conninfo:
            with psycopg.connect(conninfo) as connection:
                connection.execute("CREATE TABLE sample (id integer)")
                (listens,) = connection.execute("SHOW listen_addresses").fetchone() or ("?",)
                assert listens == ""
            sockets = Path(conninfo.split("host=")[1].split()[0])
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
            with (
                pytest.raises(WrongUse, match="another command uses the server"),
                desk.server(home),
            ):
                pass
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(conninfo, connect_timeout=2)
        with desk.server(home) as conninfo, psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT count(*) FROM sample").fetchone() == (0,)

    as_nobody(work)


def test_the_server_of_a_command_that_was_killed_is_ended_by_the_next() -> None:
    def work(home: Path) -> None:
        command = os.fork()
        if command == 0:
            with desk.server(home):
                (home / "up").touch()
                time.sleep(60)
            os._exit(0)
        until = time.monotonic() + 30
        while not (home / "up").exists() and time.monotonic() < until:
            time.sleep(0.05)
        orphan = int((home / "data/postmaster.pid").read_text().split()[0])
        os.kill(command, signal.SIGKILL)
        os.waitpid(command, 0)
        assert lives(orphan)
        with desk.server(home) as conninfo, psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert not lives(orphan)

    as_nobody(work)


def test_what_another_version_made_is_made_again() -> None:
    def work(home: Path) -> None:
        with desk.server(home) as conninfo, psycopg.connect(conninfo) as connection:
            connection.execute("CREATE TABLE sample (id integer)")
        (home / "version").write_text("postgres (PostgreSQL) 9.6\n")
        with desk.server(home) as conninfo, psycopg.connect(conninfo) as connection:
            assert connection.execute("SELECT to_regclass('sample')").fetchone() == (None,)

    as_nobody(work)


def test_without_programs_or_as_root_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if os.geteuid() == 0:
        with pytest.raises(WrongUse, match="does not run as root"), desk.server(tmp_path):
            pass
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(desk, "_DEBIAN", tmp_path)
    with pytest.raises(WrongUse, match="no PostgreSQL") as caught, desk.server(tmp_path):
        pass
    assert "AIRFLOW_CONN_WAREHOUSE" in caught.value.hint

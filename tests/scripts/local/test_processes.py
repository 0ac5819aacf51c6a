from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from frame.failure import Failure
from scripts.local import processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# They outlive the object that started them: that is what the module is for.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")

STUBBORN = "trap '' TERM; echo deaf; while :; do sleep 0.1; done"


@pytest.fixture(autouse=True)
def nothing_left(home: Path) -> Iterator[None]:
    """End whatever a test started, by its id."""
    yield
    for file in (home / "run").glob("*"):
        if process := processes.find(file.name):
            process.kill()
            process.wait(10)


def write_pid(home: Path, pid: int, created: float) -> None:
    (home / "run").mkdir(parents=True, exist_ok=True)
    (home / "run/one").write_text(f"{pid} {created}")


def log(home: Path) -> str:
    return (home / "logs/one.log").read_text()


def wait_until_said(home: Path, text: str) -> None:
    for _ in range(100):
        if text in log(home):
            return
        time.sleep(0.05)
    pytest.fail(f"never said {text!r}: {log(home)!r}")


def test_a_process_is_found_until_it_is_stopped(home: Path) -> None:
    assert processes.find("one") is None
    processes.start("one", ["sleep", "60"])
    found = processes.find("one")
    assert found is not None
    for _ in range(100):  # Linux shows no words for a moment while the program is put in place
        if found.cmdline():
            break
        time.sleep(0.05)
    assert found.cmdline() == ["sleep", "60"]
    processes.stop("one")
    assert processes.find("one") is None
    assert not psutil.pid_exists(found.pid)
    assert not (home / "run/one").exists()


def test_a_second_start_starts_nothing() -> None:
    processes.start("one", ["sleep", "60"])
    first = processes.find("one")
    processes.start("one", ["sleep", "60"])
    assert processes.find("one") == first


def test_one_that_runs_by_other_words_or_with_older_files_is_started_again(tmp_path: Path) -> None:
    settings = tmp_path / "settings"
    settings.write_text("a = 1")
    processes.start("one", ["sleep", "60"], files=[settings])
    for words, text in (("60", "a = 2"), ("61", "a = 2")):
        before = processes.find("one")
        settings.write_text(text)
        assert before
        assert not processes.is_up_to_date("one", ["sleep", words], [settings])
        processes.start("one", ["sleep", words], files=[settings])
        assert processes.is_up_to_date("one", ["sleep", words], [settings])
        assert not psutil.pid_exists(before.pid)


def test_a_process_that_ended_is_not_found_and_can_be_started_again(home: Path) -> None:
    processes.start("one", ["true"])
    pid = int((home / "run/one").read_text().split()[0])
    # Gone, or a zombie as long as nobody has asked for its exit code.
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    assert processes.find("one") is None
    processes.start("one", ["sleep", "60"])
    assert processes.find("one") is not None


def test_an_id_that_another_program_has_now_is_never_taken_for_ours(home: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        created = psutil.Process(stranger.pid).create_time()
        write_pid(home, stranger.pid, created - 3600)
        assert processes.find("one") is None
        processes.stop("one", timeout=1)
        assert stranger.poll() is None, "a stranger was stopped"
        assert not (home / "run/one").exists()
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "no number", "12", "1 2 3", "99999999 0"])
def test_a_damaged_file_is_like_none(home: Path, text: str) -> None:
    (home / "run").mkdir(parents=True)
    (home / "run/one").write_text(text)
    assert processes.find("one") is None
    processes.stop("one")


def test_a_process_that_does_not_listen_to_term_is_killed(home: Path) -> None:
    processes.start("one", ["sh", "-c", STUBBORN])
    wait_until_said(home, "deaf")
    pid = processes.find("one").pid  # type: ignore[union-attr]
    started = time.monotonic()
    processes.stop("one", timeout=0.5)
    assert 0.5 <= time.monotonic() - started < 10
    assert not psutil.pid_exists(pid)


def test_a_process_may_end_in_its_own_way(home: Path) -> None:
    processes.start("one", ["sh", "-c", "trap 'echo done; exit 0' TERM; echo up; sleep 60 & wait"])
    wait_until_said(home, "up")
    processes.stop("one")
    wait_until_said(home, "done")
    assert processes.find("one") is None


def test_the_operators_shell_does_not_reach_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/kills/nomad")
    processes.start("one", ["env"], environment={"HOME": "/a/home"})
    wait_until_said(home, "HOME=/a/home")
    wait_until_said(home, f"PATH={os.environ['PATH']}")
    wait_until_said(home, "CHECKPOINT_DISABLE=1")
    assert "AWS_CA_BUNDLE" not in log(home)


def test_it_does_not_end_with_the_terminal_that_started_it() -> None:
    processes.start("one", ["sleep", "60"])
    pid = processes.find("one").pid  # type: ignore[union-attr]
    assert os.getsid(pid) == pid != os.getsid(0)


def test_logs_are_added_to(home: Path) -> None:
    for word in ("first", "second"):
        processes.start("one", ["echo", word])
        wait_until_said(home, word)
        processes.stop("one")
    assert log(home) == "first\nsecond\n"


def test_waiting_ends_as_soon_as_it_is_ready() -> None:
    processes.start("one", ["sleep", "60"])
    answers = iter([False, True])
    started = time.monotonic()
    processes.wait_for("one", lambda: next(answers), timeout=30)
    assert time.monotonic() - started < 5


def test_waiting_tells_that_it_ended_with_its_logs_last_words(home: Path) -> None:
    lines = "".join(f"line {n}\\n" for n in range(20))
    processes.start("one", ["sh", "-c", f"printf '{lines}'; echo no such file >&2; exit 3"])
    with pytest.raises(Failure) as caught:
        processes.wait_for("one", lambda: False, timeout=30)
    message = caught.value.message
    assert "one ended before it was ready" in message
    assert message.endswith("no such file")
    assert "line 19" in message
    assert "line 0\n" not in message
    assert str(home / "logs/one.log") in caught.value.hint


def test_waiting_is_bounded() -> None:
    processes.start("one", ["sleep", "60"])
    started = time.monotonic()
    with pytest.raises(Failure, match="one was not ready within 1 s"):
        processes.wait_for("one", lambda: False, timeout=1)
    assert time.monotonic() - started < 5


def test_a_process_of_another_run_is_found_by_the_next_command(home: Path) -> None:
    """`make up` and `make down` are two processes: nothing is a child of the second."""
    program = (
        "import pathlib, sys, os\n"
        "from scripts.local import processes\n"
        "home = pathlib.Path(sys.argv[1])\n"
        "processes.LOGS, processes.PID_FILES = home / 'logs', home / 'run'\n"
        "processes.start('one', ['sleep', '60'])\n"
    )
    subprocess.run([sys.executable, "-c", program, home], check=True, timeout=30)
    found = processes.find("one")
    assert found is not None
    processes.stop("one")
    assert not psutil.pid_exists(found.pid)

"""The sandbox itself, without Airflow: what a child is, and that nothing of it is left."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery.sandbox import Bounds, Ended, Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

# Of this process alone, and its next too: the sandbox kills all that this user has.
UID = 10_000_000 + 2 * os.getpid()
BOUNDS = {"seconds": 20, "memory": 2**30, "processes": 32, "file_bytes": 2**20, "output": 2**20}


@pytest.fixture
def run(stranger_python: Path) -> Callable[..., Ended]:
    def start(code: str, watched: tuple[Path, ...] = (), **bounds: Any) -> Ended:
        sandbox = Sandbox((UID, UID), Bounds(**(BOUNDS | bounds)), watched)
        with sandbox.scratch() as scratch:
            return sandbox.run(
                [str(stranger_python), "-I", "-c", code], folder=scratch, environ={"A": "1"}
            )

    return start


def strangers() -> list[str]:
    lines = subprocess.run(
        ["ps", "-o", "stat=,pid=,args=", "-u", str(UID)],
        capture_output=True, text=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    return [line for line in lines if not line.startswith("Z")]


def test_a_child_is_another_user_with_nothing(run: Callable[..., Ended]) -> None:
    ended = run(
        "import os, sys, resource as r\n"
        "status = open('/proc/self/status').read()\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups(), sorted(os.environ))\n"
        "held = ('CapPrm', 'CapAmb', 'NoNew')\n"
        "print([l.split()[1] for l in status.splitlines() if l.startswith(held)])\n"
        "print(sys.stdin.read() == '', open('/proc/self/oom_score_adj').read().strip())\n"
        "print(r.getrlimit(r.RLIMIT_NPROC), r.getrlimit(r.RLIMIT_CORE))\n"
    )
    assert ended.code == 0, ended.stderr
    # LC_CTYPE is Python's own coercion, LD_LIBRARY_PATH and PWD the test's wrapper's.
    lines = ended.stdout.decode().splitlines()
    assert lines[0].startswith(f"{(UID,) * 3} {(UID,) * 3} [] ['A'")
    assert "SECRET" not in lines[0]
    assert lines[1] == str(["0" * 16, "0" * 16, "1"])
    assert lines[2] == "True 1000"
    assert lines[3] == "(32, 32) (0, 0)"


@pytest.mark.parametrize("code", ["import os; os.setuid(0)", "import os; os.kill(1, 9)"])
def test_a_child_cannot_become_or_kill_root(run: Callable[..., Ended], code: str) -> None:
    assert b"PermissionError" in run(code).stderr


@pytest.mark.parametrize(
    ("code", "cut"),
    [
        ("while True: pass", "time"),
        ("import time; time.sleep(100)", "time"),
        ("while True: print('x' * 1000)", "output"),
        ("import os\nwhile True: os.write(2, b'x' * 1000)", "output"),
        ("import os, time\nos.close(1); os.close(2); time.sleep(100)", "time"),
    ],
)
def test_a_bound_ends_it(run: Callable[..., Ended], code: str, cut: str) -> None:
    began = time.monotonic()
    ended = run(code, seconds=1.5)
    assert (ended.cut, ended.code) == (cut, -9)
    assert time.monotonic() - began < 60
    assert len(ended.stdout) <= BOUNDS["output"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("x = bytearray(2**31)", b"MemoryError"),
        ("open('x', 'wb').write(bytes(2**21))", b"File too large"),
    ],
)
def test_memory_and_files_are_bounded(run: Callable[..., Ended], code: str, said: bytes) -> None:
    assert said in run(code).stderr


@pytest.mark.parametrize(
    "code",
    [
        "import os\nwhile True:\n    os.fork()\n",
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass\n",
        "import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork(): os._exit(0)\n"
        "    while True: pass",
        "import os, signal, time\nfor n in range(5):\n    if os.fork() == 0:\n"
        "        os.setpgid(0, 0)\n"
        "        while True:\n            try: os.kill(-1, 9)\n            except OSError: pass\n",
    ],
)  # fmt: skip
def test_nothing_outlives_the_run(run: Callable[..., Ended], code: str) -> None:
    run(code, seconds=2)
    assert strangers() == []


def test_a_daemon_that_holds_the_pipes_delays_nothing(run: Callable[..., Ended]) -> None:
    ended = run(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(100)\nprint('end')"
    )
    assert (ended.cut, ended.code, ended.stdout) == ("", 0, b"end\n")


def test_a_file_in_nomads_folders_ends_it(run: Callable[..., Ended], place: Path) -> None:
    shared = place / "alloc" / "data"
    shared.mkdir(parents=True)
    shared.chmod(0o777)
    code = f"open({str(shared / 'x')!r}, 'w')\nimport time; time.sleep(100)"
    assert run(code, (place / "alloc",)).cut == "strayed"
    code = f"open({str(shared / 'y')!r}, 'w')"
    assert run(code, (place / "alloc",)).cut == "strayed"


def test_its_folder_can_be_written_and_is_gone_after(run: Callable[..., Ended]) -> None:
    ended = run(
        "import os; open('x', 'w').write('1'); os.makedirs('a/b', 0o700); print(os.getcwd())"
    )
    assert ended.code == 0, ended.stderr
    assert not Path(ended.stdout.decode().strip()).exists()

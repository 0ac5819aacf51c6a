"""A real remote over a real sshd, and the three verbs as Nomad would start them."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

import frame.git
from delivery.__main__ import app
from tests.conftest import free_port
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.http_server import HttpServer

ALLOC = "11111111-2222-3333-4444-555555555555"
GIT_ENVIRON = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    **{f"GIT_{who}_NAME": "Ama" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "ama@school.example" for who in ("AUTHOR", "COMMITTER")},
}


def git(*arguments: str, stdin: bytes = b"") -> str:
    """Run git as an analyst would and return its stdout."""
    done = subprocess.run(
        ["git", *arguments], input=stdin, env=GIT_ENVIRON, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def wait_for(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"nothing listens on {port}")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users can look into, which pytest's own tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="harmattan-delivery-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Sshd:
    """A running sshd of the test run's own that takes one key."""

    port: int
    home: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> Path:
        return self.home / "key"

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"

    def start(self) -> None:
        self.process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-f", self.home / "sshd_config", "-E", self.home / "log"],
            stdin=subprocess.DEVNULL,
        )
        wait_for(self.port)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@pytest.fixture(scope="session")
def sshd() -> Iterator[Sshd]:
    if not Path("/usr/sbin/sshd").exists():
        pytest.fail("/usr/sbin/sshd is missing: apt-get install openssh-server")
    home = Path(tempfile.mkdtemp(prefix="harmattan-sshd-", dir="/tmp"))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for name in ("key", "host", "stranger"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name], check=True
        )
    port = free_port()
    host = (home / "host.pub").read_text().split()
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {host[0]} {host[1]}\n")
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\n"
        f"AuthorizedKeysFile {home}/key.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        # Faster than the default key exchange; and no login files of whoever runs the tests.
        "PermitRootLogin prohibit-password\nKexAlgorithms curve25519-sha256\nSetEnv SHLVL=9\n"
    )
    found = Sshd(port, home)
    found.start()
    yield found
    found.stop()
    shutil.rmtree(home, ignore_errors=True)


@dataclass
class Remote:
    """The analysts' repository, served by sshd."""

    path: Path
    sshd: Sshd

    @property
    def url(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.sshd.port}{self.path}"

    def push(self, files: dict[str, str], *, parents: bool = True) -> str:
        """Make a commit whose tree is ``files`` (path to content) and move ``main`` to it."""
        repository = f"--git-dir={self.path}"
        index = {"GIT_INDEX_FILE": str(self.path / "test-index")}
        (self.path / "test-index").unlink(missing_ok=True)
        lines = []
        for name, content in files.items():
            mode = "120000" if content.startswith("-> ") else "100644"
            raw = content.removeprefix("-> ").encode()
            made = git(repository, "hash-object", "-w", "--stdin", stdin=raw)
            lines.append(f"{mode} {made}\t{name}\0")
        subprocess.run(
            ["git", repository, "update-index", "-z", "--index-info"],
            input="".join(lines).encode(), env={**GIT_ENVIRON, **index}, check=True,
        )  # fmt: skip
        tree = subprocess.run(
            ["git", repository, "write-tree"],
            env={**GIT_ENVIRON, **index}, check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        return self.commit(tree, parents=parents)

    def commit(self, tree: str, *, parents: bool = True) -> str:
        repository = f"--git-dir={self.path}"
        old = git(repository, "for-each-ref", "--format=%(objectname)", "refs/heads/main")
        parent = ["-p", old] if old and parents else []
        made = git(repository, "commit-tree", tree, *parent, "-m", "A push")
        git(repository, "update-ref", "refs/heads/main", made)
        return made


@pytest.fixture
def remote(place: Path, sshd: Sshd) -> Remote:
    path = place / "srv" / "analysts.git"
    git("init", "--quiet", "--bare", str(path))
    return Remote(path, sshd)


def allocation(code: int, **changes: Any) -> dict[str, Any]:
    """Return the part of GET /v1/allocation/:id that counts, of a judge that ended."""
    event = {
        "Type": "Terminated",
        "Time": 1795000000000000000,
        "ExitCode": code,
        "Signal": 0,
        "Details": {"exit_code": str(code), "signal": "0", "oom_killed": "false"},
    }
    state = {
        "State": "dead",
        "Failed": code != 0,
        "Restarts": 0,
        "Events": [{"Type": "Received"}, {"Type": "Started"}, event],
    }
    event.update(changes.pop("event", {}))
    state.update(changes.pop("state", {}))
    return {"ID": ALLOC, "ClientStatus": "running", "TaskStates": {"judge": state}, **changes}


@pytest.fixture
def nomad() -> Iterator[HttpServer]:
    """Nomad's answers, as far as the shape goes: a judge that ended with 0.

    It is not Nomad: that the true one answers so is shown by the end-to-end tests.
    """
    with http_server(Answer(body=allocation(0))) as served:
        yield served


@pytest.fixture(scope="session")
def stranger_python() -> Iterator[Path]:
    """This interpreter, where another user can reach it: itself, or a copy under /tmp."""
    if os.geteuid() != 0:
        pytest.fail("these tests change users for real: run them as root")
    real = Path(sys.executable).resolve()
    if all(folder.stat().st_mode & 0o001 for folder in real.parents):
        yield Path(sys.executable)
        return
    home = Path(tempfile.mkdtemp(prefix="harmattan-python-", dir="/tmp"))
    home.chmod(0o755)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    _linked(Path(sys.base_prefix), home / "python", version)
    (home / "venv" / "bin").mkdir(parents=True)
    (home / "venv" / "lib" / version).mkdir(parents=True)
    (home / "venv" / "pyvenv.cfg").write_text(f"home = {home}/python/bin\n")
    (home / "venv" / "bin" / "python").symlink_to(home / "python" / "bin" / version)
    (home / "venv" / "lib" / version / "site-packages").symlink_to(
        Path(sys.prefix) / "lib" / version / "site-packages"
    )
    wrapper = home / "python.sh"
    wrapper.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH={home}/python/lib exec {home}/venv/bin/python "$@"\n'
    )
    wrapper.chmod(0o755)
    yield wrapper
    shutil.rmtree(home, ignore_errors=True)


def _linked(source: Path, target: Path, version: str) -> None:
    """Copy an interpreter and its standard library, by hard links where that goes."""
    (target / "bin").mkdir(parents=True)
    shutil.copy2(source / "bin" / version, target / "bin" / version)
    same = source.stat().st_dev == target.stat().st_dev
    shutil.copytree(
        source / "lib",
        target / "lib",
        ignore=shutil.ignore_patterns(
            "site-packages", "test", "tests", "idlelib", "*.a", "config-*"
        ),
        copy_function=os.link if same else shutil.copy2,
    )


@dataclass
class Verbs:
    """The console script, each verb with its task's environment."""

    place: Path
    remote: Remote
    nomad: HttpServer
    environ: dict[str, str]

    @property
    def mirror(self) -> Path:
        return self.place / "mirror"

    @property
    def incoming(self) -> Path:
        return self.place / "incoming"

    @property
    def run_folder(self) -> Path:
        return self.incoming / ALLOC

    def __call__(self, *verb: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a verb through the console script's app, in this process: it starts faster."""
        done = CliRunner().invoke(app, verb, env=self.environ | more)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(verb, done.exit_code, done.stdout, done.stderr)

    def candidate(self) -> dict[str, Any]:
        return json.loads((self.run_folder / "candidate.json").read_text())  # type: ignore[no-any-return]

    def verdict(self) -> dict[str, Any]:
        done = self("verdict", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def findings(self) -> dict[str, Any]:
        return json.loads((self.place / "alloc" / "data" / "findings.json").read_text())  # type: ignore[no-any-return]

    def live(self, name: str) -> str:
        return git(f"--git-dir={self.mirror}/{name}.git", "rev-parse", "refs/heads/live")

    def files(self, name: str, commit: str = "live") -> dict[str, str]:
        """Return path to mode of a commit in the mirror."""
        listing = git(f"--git-dir={self.mirror}/{name}.git", "ls-tree", "-r", commit)
        return {line.split("\t")[1]: line.split()[0] for line in listing.splitlines()}

    def judge_ended(self, code: int, **changes: Any) -> None:
        """Let Nomad say that the judge ended with ``code``."""
        self.nomad.answer(Answer(body=allocation(code, **changes)))

    def deliver(self, code: int = 0) -> None:
        """Fetch and publish, with Nomad saying that a judge ended with ``code``."""
        for verb in ("fetch", "publish"):
            self.judge_ended(code)
            done = self(verb)
            assert done.returncode == 0, done.stderr


@pytest.fixture
def verbs(place: Path, remote: Remote, nomad: HttpServer, monkeypatch: pytest.MonkeyPatch) -> Verbs:
    # No test cuts the power, and a busy disk takes its time.
    monkeypatch.setitem(frame.git._CONFIG, "core.fsync", "none")
    for name in ("mirror", "incoming", "alloc/data", "local", "secrets"):
        (place / name).mkdir(parents=True)
    (place / "alloc" / "data").chmod(0o777)
    token = place / "secrets" / "nomad_token"
    token.write_text("a-token\n")
    return Verbs(
        place,
        remote,
        nomad,
        {
            "PATH": os.environ["PATH"],
            "DELIVERY_REMOTE": remote.url,
            "DELIVERY_KEY_FILE": str(remote.sshd.key),
            "DELIVERY_KNOWN_HOSTS_FILE": str(remote.sshd.known_hosts),
            "DELIVERY_FETCH_ATTEMPTS": "2",
            "DELIVERY_INCOMING": str(place / "incoming"),
            "DELIVERY_MIRROR": str(place / "mirror"),
            "DELIVERY_NOMAD_TOKEN_FILE": str(token),
            "DELIVERY_NOMAD_SECONDS": "1",
            "NOMAD_ADDR": nomad.url,
            "NOMAD_ALLOC_ID": ALLOC,
            "NOMAD_ALLOC_DIR": str(place / "alloc"),
            "NOMAD_TASK_DIR": str(place / "local"),
        },
    )

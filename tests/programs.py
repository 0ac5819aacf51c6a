"""Which programs a test may start, and the guard that holds every test to it.

Collecting starts nothing. A test may start what stands on a machine after ``make setup``, scripts/
and what it wrote itself. All else - a server, a package of Debian's, Docker, Nomad, Vault, Go - is
for tests with the marker ``programs``, which ``make check`` leaves out: a test without it fails as
soon as it starts one. A process that it starts finds those of REFUSED_TO_CHILDREN on its PATH, and
they fail: nothing compiles Nomad for ten minutes.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Of Debian's essential packages, and what the README asks for.
ALWAYS_THERE = frozenset(
    {
        *(Path(sys.executable).name, Path(sys.executable).resolve().name),
        *("bash", "cat", "echo", "env", "file", "flock", "git", "kill", "make", "printf"),
        *("prlimit", "rm", "sh", "sleep", "true", "uname"),
    }
)
# Python's own `platform` asks these; croniter asks it when it is imported.
WHILE_COLLECTING = frozenset({"file", "uname"})
# The markers of a test follow from its fixtures; one that starts a program and is not named here
# fails the tests that use it.
FIXTURES = {
    "mariadb": "programs",
    "postgres": "programs",
    "vault_server": "programs",
    "nomad_agent": "programs",
    "sshd": "programs",
    "gnupg_home": "programs",
    "browser": "programs",
    "airflow_program": "slow",
    "stranger_python": "programs",
}
MAY_START_ALL = ("programs", "e2e", "soak")

REFUSED_TO_CHILDREN = ("docker", "go", "gpg", "nomad", "pg_dump", "psql", "vault", "zstd")
TEMPORARY = Path(tempfile.gettempdir())

_holds: list[tuple[str, frozenset[str]]] = []


@contextmanager
def hold(who: str, allowed: frozenset[str]) -> Iterator[None]:
    """Raise :class:`pytest.fail.Exception` where a program that is not ``allowed`` is started."""
    _holds.append((who, allowed))
    try:
        yield
    finally:
        _holds.pop()


def _look(event: str, arguments: tuple[Any, ...]) -> None:
    if not _holds or event not in {"subprocess.Popen", "os.posix_spawn", "os.exec"}:
        return
    who, allowed = _holds[-1]
    program, environment = os.fsdecode(arguments[0]), arguments[-1] or os.environ
    found = shutil.which(program, path=environment.get("PATH"))
    if found is None or Path(found).name in allowed:  # None: it is not there, so nothing starts
        return
    path = Path(found).resolve()
    if path.parent == _refusals() or not any(
        path.is_relative_to(folder) for folder in (ROOT / "scripts", TEMPORARY)
    ):
        pytest.fail(f"{who} starts {program}, which tests/programs.py does not allow")


sys.addaudithook(_look)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let collecting start nothing."""
    with hold("collecting", WHILE_COLLECTING):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the markers of its fixtures."""
    for item in items:
        for name in FIXTURES.keys() & getattr(item, "fixturenames", ()):
            item.add_marker(FIXTURES[name])


@functools.cache
def _refusals() -> Path:
    """Return a folder with a program of each refused name that says why and fails."""
    folder = Path(tempfile.mkdtemp(prefix="harmattan-refused-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in REFUSED_TO_CHILDREN:
        program = folder / name
        program.write_text("#!/bin/sh\necho 'a test without the marker `programs`' >&2\nexit 1\n")
        program.chmod(0o755)
    return folder


def _may_start_all(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in MAY_START_ALL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Refuse programs to the children of a test without the marker."""
    with pytest.MonkeyPatch.context() as patch:
        if not _may_start_all(item):
            patch.setenv("PATH", str(_refusals()), prepend=os.pathsep)
        return (yield)


def _held(item: pytest.Item) -> Generator[None, object, object]:
    if _may_start_all(item):
        return (yield)
    with hold("a test without the marker `programs`", ALWAYS_THERE):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Hold the fixtures of a test without the marker."""
    return (yield from _held(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Hold the test itself."""
    return (yield from _held(item))

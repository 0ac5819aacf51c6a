from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from scripts import tools
from scripts.local import engine, preflight
from scripts.repository import ROOT
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """The only port that the platform needs, as far as this test goes."""
    number = free_port()
    monkeypatch.setattr(preflight, "PORTS", {"the Test": (number,), "Vault": ()})
    return number


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which nothing is installed and nothing was built."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(tools, "TOOLS", tmp_path / "tools")
    yield


def listening(address: str, port: int) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    server.listen()
    return server


def test_a_free_port_is_no_fault(port: int) -> None:
    assert preflight.ports() == []


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])  # noqa: S104
def test_a_port_that_another_program_listens_on_is_told(port: int, address: str) -> None:
    with closing(listening(address, port)):
        ((fault, way_out),) = preflight.ports()
    assert fault == f"port {port}, which the Test needs, is taken"
    assert str(port) in way_out


def test_a_port_of_an_address_that_is_not_ours_is_no_fault(port: int) -> None:
    with closing(listening("127.0.0.9", port)):
        assert preflight.ports() == []


def test_a_connection_from_that_port_is_no_fault(port: int) -> None:
    other = free_port()
    with closing(listening("127.0.0.1", other)), socket.socket() as client:
        client.bind(("127.0.0.1", port))
        client.connect(("127.0.0.1", other))
        assert preflight.ports() == []


@pytest.mark.usefixtures("empty_path")
def test_neither_the_tools_nor_go_to_build_them() -> None:
    ((fault, way_out), *_) = preflight.programs()
    assert fault == "no nomad and no vault on PATH, and no Go to build it"
    assert "Go 1.26" in way_out


@pytest.mark.usefixtures("empty_path")
def test_no_docker_and_no_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "obtainable", lambda: False)
    told = dict(preflight.programs())
    assert "Docker 20.10" in told["no Docker engine answers"]
    (absent,) = [fault for fault in told if fault.startswith("not installed: ")]
    for package in preflight.PROGRAMS.values():
        assert package in absent
    with pytest.raises(Failure, match="only on Debian as root") as caught:
        engine.ensure()
    assert "Docker 20.10" in caught.value.hint


@pytest.mark.usefixtures("empty_path")
def test_docker_and_programs_that_can_be_installed_are_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "obtainable", lambda: True)
    ((fault, _),) = preflight.programs()
    assert fault.startswith("no nomad")


@pytest.mark.usefixtures("empty_path")
def test_go_alone_is_enough(tmp_path: Path) -> None:
    (tmp_path / "bin/go").write_text("#!/bin/sh\n")
    (tmp_path / "bin/go").chmod(0o755)
    assert not [fault for fault, _ in preflight.programs() if "Go" in fault]


def test_too_little_disk_is_told_before_the_first_run_only(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "DISK", 10**18)
    ((fault, way_out),) = preflight.disk()
    assert "GB are needed" in fault
    assert str(ROOT) in way_out
    home.mkdir()
    assert len(preflight.disk()) == 1, "a first run that failed changes nothing about it"
    (home / "images.hcl").touch()
    assert preflight.disk() == []


def test_enough_disk_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "DISK", 1)
    assert preflight.disk() == []


def test_who_is_not_root_is_told() -> None:
    program = """
import os
from scripts.local import preflight
os.setuid(65534)
print(preflight.privileges())
"""
    if os.geteuid() != 0:
        pytest.fail("this test changes users for real: run it as root")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=30,
        check=True,
    )  # fmt: skip
    assert "not root" in done.stdout


@pytest.mark.usefixtures("empty_path")
def test_all_faults_are_told_at_once_and_nothing_is_changed(
    home: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "DISK", 10**18)
    with closing(listening("127.0.0.1", port)), pytest.raises(Failure) as caught:
        preflight.check()
    message = caught.value.message
    assert "nothing but .venv was changed" in message
    for part in ("no nomad", "GB are needed", f"port {port}"):
        assert message.count(part) == 1, message
    assert caught.value.hint.count("\n  - ") == message.count("\n  - ")
    assert not home.exists()

"""Secrets are copied out of reach before strangers run, and a planted file is refused."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from harmattan.private_secrets import copy

if TYPE_CHECKING:
    from pathlib import Path

STRANGER = 50009


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A folder as Nomad makes it: open to all, two secrets, its own mark and a socket."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    folder.chmod(0o777)
    for name in ("database_uri", "fernet_key"):
        (folder / name).write_text(f"the {name}")
        (folder / name).chmod(0o400)
    (folder / ".nomad-mount").touch(0o644)
    with socket.socket(socket.AF_UNIX) as api:
        api.bind(str(folder / "api.sock"))
    return folder


def test_secrets_are_copied_to_a_folder_of_ones_own(secrets: Path, tmp_path: Path) -> None:
    target = tmp_path / "private"
    copy(secrets, target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {
        "database_uri": "the database_uri",
        "fernet_key": "the fernet_key",
    }
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


def test_copying_again_takes_the_secret_as_it_is_now(secrets: Path, tmp_path: Path) -> None:
    target = tmp_path / "private"
    copy(secrets, target)
    (secrets / "fernet_key").unlink()
    (secrets / "fernet_key").write_text("another")
    (secrets / "fernet_key").chmod(0o400)
    copy(secrets, target)
    assert (target / "fernet_key").read_text() == "another"


@pytest.mark.parametrize("planted", ["file", "link"])
def test_what_another_user_planted_is_refused(secrets: Path, tmp_path: Path, planted: str) -> None:
    mine = secrets / "database_uri"
    mine.unlink()
    if planted == "file":
        mine.write_text("a server of the stranger's")
        mine.chmod(0o400)
    else:
        mine.symlink_to(secrets / "fernet_key")
    os.chown(mine, STRANGER, STRANGER, follow_symlinks=False)
    with pytest.raises(PermissionError, match=rf"database_uri .*uid {STRANGER}"):
        copy(secrets, tmp_path / "private")


def test_the_command_takes_the_place_of_the_process(secrets: Path, tmp_path: Path) -> None:
    target = tmp_path / "private"
    code = (
        "import harmattan.private_secrets as p; from pathlib import Path;"
        f"p.SECRETS, p.PRIVATE = Path({str(secrets)!r}), Path({str(target)!r}); p.main()"
    )
    words = [sys.executable, "-c", code, "cat", str(target / "fernet_key")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "the fernet_key")


def test_a_planted_file_ends_the_process_with_one_clear_error(
    secrets: Path, tmp_path: Path
) -> None:
    os.chown(secrets / "fernet_key", STRANGER, STRANGER)
    code = (
        "import harmattan.private_secrets as p; from pathlib import Path;"
        f"p.SECRETS, p.PRIVATE = Path({str(secrets)!r}), Path({str(tmp_path / 'own')!r}); p.main()"
    )
    words = [sys.executable, "-c", code, "true"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "HINT" in done.stderr
    assert "Traceback" not in done.stderr

from __future__ import annotations

import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure, WrongUse
from scripts import environments

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.programs


def wheel(folder: Path, says: str) -> str:
    """Write a package with a program that says a word; return the line that locks it."""
    about = "acme-1.0.dist-info"
    path = folder / "acme-1.0-py3-none-any.whl"
    files = {
        "acme.py": f"def main():\n    print({says!r})\n",
        f"{about}/METADATA": "Metadata-Version: 2.4\nName: acme\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nacme = acme:main\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return f"acme @ file://{path} --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def lock(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file in a project of its own."""
    monkeypatch.setattr(environments, "LOCKS", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "environments")
    # What was unpacked of another test's wheel of that name and version stays out.
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "acme.txt"
    path.write_text(wheel(tmp_path, "one"))
    return path


def said(environment: Path) -> str:
    program = environment / "bin/acme"
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.strip()


def test_the_locked_program_runs_and_is_made_once(lock: Path) -> None:
    made = environments.ensure("acme")
    before = made.stat().st_mtime_ns
    assert said(made) == "one"
    assert environments.ensure("acme") == made
    assert made.stat().st_mtime_ns == before


def test_callers_at_once_get_one_whole_environment(
    lock: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = set(pool.map(environments.ensure, ["acme"] * 4))
    assert {said(path) for path in made} == {"one"}
    assert {path.suffix for path in environments.ENVIRONMENTS.iterdir()} == {"", ".lock"}
    assert len(made) == 1


def test_another_lock_makes_another_environment(lock: Path, tmp_path: Path) -> None:
    first = environments.ensure("acme")
    other = tmp_path / "other"
    other.mkdir()
    lock.write_text(wheel(other, "two"))
    second = environments.ensure("acme")
    assert (said(first), said(second)) == ("one", "two")


def test_what_was_left_half_made_is_made_whole(lock: Path) -> None:
    half = environments.place(lock).with_suffix(".part")
    (half / "bin").mkdir(parents=True)
    (half / "bin/acme").write_text("half")
    assert said(environments.ensure("acme")) == "one"


def test_a_package_that_is_not_the_locked_one_makes_no_environment(lock: Path) -> None:
    lock.write_text(lock.read_text().rpartition(":")[0] + ":" + "0" * 64 + "\n")
    with pytest.raises(Failure, match="environment-acme ended with exit code"):
        environments.ensure("acme")
    assert not environments.place(lock).exists()


def test_a_lock_that_is_not_there_is_named(lock: Path) -> None:
    with pytest.raises(WrongUse, match=r"there is no lock file requirements/superset\.txt"):
        environments.ensure("superset")

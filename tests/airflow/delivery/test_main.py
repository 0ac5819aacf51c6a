"""The console script: what it teaches, how it ends."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from delivery.__main__ import app


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "delivery", *arguments],
        capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"} | environ,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("fetch", ["DELIVERY_REMOTE", "required", "DELIVERY_KEY_FILE"]),
        ("judge", ["DELIVERY_STRANGER_UID", "0  sound", "1  refused", "SETUID"]),
        ("publish", ["NOMAD_ADDR", "DELIVERY_NOMAD_TOKEN_FILE"]),
        ("mirror", ["DELIVERY_PORT", "read-only"]),
        ("verdict", ["--json", "3  no push was judged yet"]),
    ],
)
def test_help_teaches_what_a_verb_reads(verb: str, words: list[str]) -> None:
    said = CliRunner().invoke(app, [verb, "--help"], prog_name="dag-sync").output
    for word in words:
        assert word in said


def test_wrong_use_is_2_with_a_hint() -> None:
    assert run("nothing").returncode == 2
    done = run("fetch")
    assert done.returncode == 2
    assert "DELIVERY_REMOTE is not set\nHINT: " in done.stderr
    for verb in ("judge", "publish"):
        assert run(verb).returncode == 2


def test_no_verdict_yet_is_3(verbs: Any) -> None:
    done = verbs("verdict", "--json")
    assert (done.returncode, done.stdout) == (3, "null\n")


def test_a_verdict_is_shown_to_humans_too(verbs: Any) -> None:
    verbs.remote.push({"a": "-> /etc/passwd"})
    verbs.deliver()
    said = verbs("verdict").stdout
    assert "refused" in said
    assert "a: tree: the symbolic link leads to /etc/passwd" in said


def test_airflow_is_not_imported() -> None:
    code = (
        "import delivery.__main__, sys; sys.exit(any(m.split('.')[0] == 'airflow' for m in "
        "sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

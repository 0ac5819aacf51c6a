"""Reads the analysts' live commit from the DAG mirror: blobs only, nothing is checked out."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from dashboards.files import FOLDER, MODELS, MOST_BYTES, Tree, bounded, decode
from frame.failure import Failure

BRANCH = "refs/heads/live"
SECONDS = 60
# Nothing that the machine or a repository configures takes part.
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "git:https:ssh",
}
_PLAIN_FILES = ("100644", "100755")  # no links, no submodules


def live(mirror: str) -> str:
    """Return the commit that is live. Raises :class:`Failure`."""
    answer = _git("ls-remote", "--exit-code", "--", f"{mirror}/analysts.git", BRANCH)
    return answer.decode().split()[0]


def fetch(mirror: str, commit: str) -> Tree:
    """Return the files of the live commit that matter here. Raises :class:`Failure`.

    It may have moved since :func:`live` told ``commit``: the next round sees that.
    """
    with tempfile.TemporaryDirectory() as folder:
        _git("init", "--quiet", "--bare", folder)
        at = f"--git-dir={folder}"
        url = f"{mirror}/analysts.git"
        _git(at, "fetch", "--quiet", "--depth=1", "--no-tags", "--", url, BRANCH)
        if _git(at, "rev-parse", "FETCH_HEAD").decode().strip() != commit:
            raise Failure("the live commit moved while it was read", "The next round reads it.")
        listing = _git(at, "ls-tree", "-r", "-l", "-z", commit, "--", FOLDER, MODELS)
        texts = {}
        for entry in listing.decode(errors="replace").split("\0"):
            if not entry:
                continue
            facts, _, path = entry.partition("\t")
            mode, _, blob, size = facts.split()
            if not path.endswith((".yaml", ".yml")):
                continue
            if mode not in _PLAIN_FILES:
                raise Failure(f"{path} is a link", "Put a file in its place.")
            if int(size) > MOST_BYTES:
                raise Failure(f"{path} is longer than {MOST_BYTES} bytes", "Split it.")
            texts[path] = decode(path, _git(at, "cat-file", "blob", blob))
        return Tree(bounded(texts))


def _git(*words: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.version=2", *words],
            env=_ENVIRONMENT,
            cwd=Path("/"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failure(
            f"git took longer than {SECONDS} s", "See whether the job dag-mirror is well."
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise Failure(
            f"git failed with {done.returncode}: {said[-1]}",
            "See whether the job dag-mirror is well.",
        )
    return done.stdout

"""Git's own checks of what a push will check out: the commit and its tree, and no history.

An object that git finds unsafe stays in the history after the next commit has removed it, and
nobody can push it away. So a history is fetched unchecked (git holds every object against its id
all the same), and its newest commit is looked at alone.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from delivery.errors import raise_if_full
from delivery.policies import finding
from frame.git import GitError, init_bare

if TYPE_CHECKING:
    from delivery.verdict import Finding
    from frame.git import Git

UNCHECKED = ("-c", "fetch.fsckObjects=false")
"""Before ``fetch``: take the objects, whatever git thinks of what they hold."""
SECONDS = 120
_SAID = re.compile(r"(?:error|warning) in (\w+) ([0-9a-f]{40})[^:]*: (.*)")


def check(git: Git, commit: str, listing: bytes, *, most: int) -> list[Finding]:
    """Return what git finds wrong with ``commit`` and its tree.

    ``listing`` is that of ``git ls-tree -r -t -z --full-tree``; ``most`` bounds what is copied to
    look at it, in bytes.
    """
    root = git.text("rev-parse", "--verify", f"{commit}^{{tree}}")
    paths = {commit: "", root: ""} | _paths(listing)
    with tempfile.TemporaryDirectory(dir=git.repository) as folder:
        alone = init_bare(Path(folder, "alone.git"))
        packs = Path(folder, "alone.git", "objects", "pack")
        packs.mkdir(exist_ok=True)
        wanted = "".join(f"{each}\n" for each in paths).encode()
        git.run(
            "pack-objects", "--quiet", f"{packs}/pack", stdin=wanted, seconds=SECONDS, most=most
        )
        # A commit that is named there has no parents, as far as git is concerned.
        Path(folder, "alone.git", "shallow").write_text(f"{commit}\n")
        try:
            words = ("--full", "--strict", "--no-dangling", "--no-reflogs", "--no-progress", commit)
            alone.run("fsck", *words, seconds=SECONDS)
        except GitError as error:
            raise_if_full(error, git.repository)
            return _findings(error, paths, commit)
    return []


def _findings(error: GitError, paths: dict[str, str], commit: str) -> list[Finding]:
    said = [line for line in map(_SAID.match, error.said.splitlines()) if line]
    if not said:
        what = f"git finds commit {commit} broken"
        return [finding("history", "", what, trace=error.said)]
    return [
        finding("history", paths.get(line[2], ""), f"{line[1]} {line[2]}: {line[3]}")
        for line in said
    ]


def _paths(listing: bytes) -> dict[str, str]:
    """Return the first path of each object of the tree; a submodule's is not in it."""
    paths: dict[str, str] = {}
    for line in listing.split(b"\0"):
        about, _, path = line.partition(b"\t")
        if line and not about.startswith(b"160000"):
            paths.setdefault(about.split()[2].decode(), path.decode(errors="replace"))
    return paths

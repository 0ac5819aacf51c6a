"""Reads the analysts' live commit from the DAG mirror: blobs only, nothing is checked out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.files import FOLDER, MODELS, MOST_BYTES, Tree, bounded, decode
from frame.failure import Failure
from frame.git import MEBIBYTE, fetched, reader

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "refs/heads/live"
SECONDS = 60
_MOST = 64 * MEBIBYTE  # the whole repository of the analysts, packed
_PLAIN_FILES = ("100644", "100755")  # no links, no submodules


def live(mirror: str, config: Path | None = None) -> str:
    """Return the commit that is live; git's ``config`` may log in. Raises :class:`Failure`."""
    return (
        reader(mirror, config=config)
        .text("ls-remote", "--exit-code", "--", f"{mirror}/analysts.git", BRANCH, seconds=SECONDS)
        .split()[0]
    )


def fetch(mirror: str, commit: str, config: Path | None = None) -> Tree:
    """Return the files of the live commit that matter here. Raises :class:`Failure`.

    It may have moved since :func:`live` told ``commit``: the next round sees that. ``config`` is
    as there.
    """
    url = f"{mirror}/analysts.git"
    with fetched(url, BRANCH, seconds=SECONDS, most=_MOST, config=config) as (git, newest):
        if newest != commit:
            raise Failure("the live commit moved while it was read", "The next round reads it.")
        listing = git.run("ls-tree", "-r", "-l", "-z", commit, "--", FOLDER, MODELS)
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
            texts[path] = decode(path, git.run("cat-file", "blob", blob))
        return Tree(bounded(texts))

"""Which files each judged commit has, so that the page can compare any two.

What was refused is gone with its run, so a list is kept of each: paths, and a mark of what is in
the file, by which one knows whether two are the same. What is in them is not kept.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from delivery.verdict import clean, read_json, write_json
from frame.git import MEBIBYTE, GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from frame.git import Git

    Contents = Mapping[str, str]
    """Path to mark."""

log = get_logger(__name__)

MOST_BYTES = 256 * 1024
"""Of one list; as many as 3,000 paths as they usually are."""
_MARK = 16  # letters of an object's id


def of(git: Git, commit: str) -> Contents | None:
    """Return the files of ``commit``; None if they are too many for a list."""
    try:
        listing = git.run("ls-tree", "-r", "-z", "--full-tree", commit, most=8 * MEBIBYTE)
    except GitError as error:
        log.warning("the commit's files cannot be listed", commit=commit, error=error.message)
        return None
    listed = {}
    for entry in listing.split(b"\0")[:-1]:
        about, _, path = entry.partition(b"\t")
        mode, _, object_id = about.decode().split()
        listed[clean(path.decode(errors="replace"))] = f"{object_id[:_MARK]}{mode}"
    return listed if len(json.dumps(listed)) <= MOST_BYTES else None


def store(root: Path, commit: str, listed: Contents | None, kept: Collection[str]) -> None:
    """Keep what :func:`of` returned, and the lists of the commits ``kept`` beside it."""
    folder = root / "contents"
    folder.mkdir(exist_ok=True)
    if listed is not None:
        write_json(folder / f"{commit}.json", listed)
    for path in folder.glob("*.json"):
        if path.stem not in {commit, *kept}:
            path.unlink(missing_ok=True)


def load(root: Path, commits: Collection[str]) -> dict[str, Contents]:
    """Return the list of each of ``commits`` that has one."""
    found = {commit: read_json(root / "contents" / f"{commit}.json") for commit in commits}
    return from_json(found)


def from_json(value: object) -> dict[str, Contents]:
    """Return the lists of untrusted JSON, cleaned; what is of another shape is left out."""
    return {
        clean(commit): {clean(path): clean(mark) for path, mark in listed.items()}
        for commit, listed in (value.items() if isinstance(value, dict) else ())
        if isinstance(listed, dict)
    }

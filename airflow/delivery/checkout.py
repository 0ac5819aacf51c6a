"""From a commit to a tree that may be judged: its limits, git's own checks, and its files.

The same of a push that was fetched and of a folder at a desk; none of it is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery import fsck, limits, links
from delivery.errors import raise_if_full
from delivery.policies import finding
from frame.git import MEBIBYTE, GitError

if TYPE_CHECKING:
    from pathlib import Path

    from delivery.limits import Entry
    from delivery.settings import TreeSettings
    from delivery.verdict import Finding
    from frame.git import Git

LISTING_SECONDS = 30.0
# 2,000 files with the longest paths take under 1 MB; ten times that is a tree made to hurt.
LISTING_BYTES = 8 * MEBIBYTE


def entries_within(
    settings: TreeSettings, git: Git, commit: str
) -> tuple[list[Entry], list[Finding]]:
    """List the tree of ``commit``, and return what of it is against the push.

    A tree that takes too long or too much to list breaks a limit.
    """
    try:
        listing = git.run(
            "ls-tree", "-r", "-t", "-l", "-z", "--full-tree", commit,
            seconds=LISTING_SECONDS, most=LISTING_BYTES,
        )  # fmt: skip
    except GitError as error:
        raise_if_full(error, git.repository)
        what = "the tree cannot be listed within bounds"
        return [], [finding("tree", "", what, trace=error.message)]
    found = list(limits.entries(listing))
    few = len(found) <= settings.max_files
    findings = limits.check(
        found, links.targets(git, found) if few else {},
        max_files=settings.max_files, max_bytes=settings.max_bytes,
    )  # fmt: skip
    if few and sum(entry.size for entry in found) <= settings.max_bytes:
        findings += fsck.check(git, commit, listing, most=2 * settings.max_bytes + LISTING_BYTES)
    return found, findings


def export(git: Git, commit: str, tree: Path) -> list[Finding]:
    """Check the commit out as Airflow's own clone will, then take every write bit away.

    Return what is against the push: that git cannot, or what Airflow could not read as text.

    A checkout and not ``git archive``: what .gitattributes does to a file in Airflow's clone
    (line ends, encodings) it must have done to the file that is judged.
    """
    tree.mkdir()
    index = {"GIT_INDEX_FILE": str(tree.parent / "index")}
    words = (f"--work-tree={tree}", "read-tree", "--reset", "-u", commit)
    try:
        # An encoding in .gitattributes can make a file at most four times its size.
        git.run(*words, environ=index, seconds=120)
        elsewhere = _elsewhere(git, commit, index)
    except GitError as error:
        raise_if_full(error, tree)
        what = "the files cannot be checked out within bounds"
        return [finding("tree", "", what, trace=error.message)]
    for path in (each for each in tree.rglob("*") if not each.is_symlink()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    tree.chmod(0o555)
    return elsewhere + _unreadable(tree)


def _elsewhere(git: Git, commit: str, index: dict[str, str]) -> list[Finding]:
    """Check that no file is kept by git LFS: what Airflow's clone has of it says where it is."""
    names = git.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
    asked = ("check-attr", "-z", "--cached", "--stdin", "filter")
    said = git.run(*asked, stdin=names, environ=index).split(b"\0")
    what = "its content is in git LFS, which is not fetched: put the file itself there"
    return [
        finding("tree", path.decode(errors="replace"), what)
        for path, value in zip(said[::3], said[2::3], strict=False)
        if value == b"lfs"
    ]


def _unreadable(tree: Path) -> list[Finding]:
    """Check what Airflow reads as text before it looks at any DAG, as the checkout wrote it."""
    findings = []
    for path in sorted(tree.rglob(".airflowignore")):
        try:
            if path.is_file():
                path.read_bytes().decode()
        except UnicodeDecodeError as error:
            what = f"not UTF-8 at byte {error.start}"
            findings.append(finding("tree", path.relative_to(tree), what))
    return findings

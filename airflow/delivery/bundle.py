"""The commits that Airflow reads: what the platform makes of a push for the pipelines' bundle.

Its tree holds the analysts' ``pipelines/*.yaml``, ``containers/*.yaml`` and ``environments.toml``
as plain files and one file of ours, so nothing that analysts can execute ever reaches what may ask
Nomad for a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery import limits, links
from frame import switches

if TYPE_CHECKING:
    from frame.git import Git

LIVE = "refs/heads/live"

# Airflow's discovery opens files only that hold the words "dag" and "airflow". It parses a file
# again at once only if the file itself is new, so this one names the tree that it stands for.
DAGS_PY = b'''"""One Airflow DAG a file. Written by the platform, and not by the analysts.

It stands for the files of the tree %s.
"""

from pathlib import Path

from harmattan.containers import container_dags
from harmattan.pipelines import pipeline_dags

HERE = Path(__file__).parent
globals().update(pipeline_dags(HERE / "pipelines") | container_dags(HERE / "containers"))
'''
_README = b"""Nothing was delivered yet: the first sound push replaces this file.
"""
# Fixed, so that a mirror made anew begins with the same commit.
_BIRTH = "0 +0000"


def first_commit(git: Git, name: str) -> str:
    """Write the commit that ``live`` begins with and return its id.

    ``name`` is one of mirror.NAMES: each can be cloned before the first push.
    """
    files = {b"dags.py": DAGS_PY % b"none"} if name == "pipelines" else {b"README": _README}
    return lone_commit(git, files, "Begin with nothing", _BIRTH)


def lone_commit(git: Git, files: dict[bytes, bytes], message: str, date: str) -> str:
    """Write a commit without a parent that holds ``files``, name to content; return its id.

    ``date`` is git's own form: seconds since 1970 and an offset.
    """
    items = [("100644", "blob", _blob(git, content), name) for name, content in files.items()]
    return _commit(git, _tree(git, items), None, message, date)


def derive(analysts: Git, pipelines: Git, commit: str, parent: str) -> str:
    """Return the pipelines' commit that stands for the analysts' ``commit``.

    ``parent`` is the pipelines' live; it is returned itself if the files are the same. The same
    input makes the same commit id on any machine.
    """
    listing = analysts.run("ls-tree", "-r", "-l", "-z", "--full-tree", commit)
    entries = list(limits.entries(listing))
    push = links.Tree.of(entries, links.targets(analysts, entries))
    folders: dict[bytes, list[tuple[str, str, str, bytes]]] = {}  # b"" is the root
    for entry in entries:
        if entry.path == switches.FILE.encode() or limits.is_bundled(entry.path):
            content = analysts.run("cat-file", "blob", push.file(entry).object_id)
            folder, _, name = entry.path.rpartition(b"/")
            folders.setdefault(folder, []).append(
                ("100644", "blob", _blob(pipelines, content), name)
            )
    beside = folders.pop(b"", [])
    below = [("040000", "tree", _tree(pipelines, files), name) for name, files in folders.items()]
    stands_for = _tree(pipelines, below) if below else "none"
    dags = _blob(pipelines, DAGS_PY % stands_for.encode())
    tree = _tree(pipelines, [*beside, ("100644", "blob", dags, b"dags.py"), *below])
    if tree == pipelines.text("rev-parse", "--verify", f"{parent}^{{tree}}"):
        return parent
    date = analysts.text("show", "--no-patch", "--format=%ct", commit)
    return _commit(pipelines, tree, parent, f"Deliver {commit}", f"{date} +0000")


def _blob(git: Git, content: bytes) -> str:
    return git.run("hash-object", "-w", "--stdin", "--no-filters", stdin=content).decode().strip()


def _tree(git: Git, items: list[tuple[str, str, str, bytes]]) -> str:
    listing = b"".join(f"{m} {k} {i}\t".encode() + name + b"\0" for m, k, i, name in items)
    return git.run("mktree", "-z", stdin=listing).decode().strip()


def _commit(git: Git, tree: str, parent: str | None, message: str, date: str) -> str:
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "Harmattan"), ("EMAIL", "dag-sync@harmattan.invalid"),
                            ("DATE", date if date.startswith("@") else f"@{date}"))
    }  # fmt: skip
    parents = ["-p", parent] if parent else []
    made = git.run(
        "commit-tree", tree, *parents, "-F", "-", stdin=f"{message}\n".encode(), environ=who
    )
    return made.decode().strip()

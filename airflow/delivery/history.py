"""The last syncs that had something to judge: one file a commit, on the mirror's volume."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery import verdict
from delivery.verdict import Verdict, clean, read_json, write_json
from frame.failure import WrongUse
from frame.git import MEBIBYTE, GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from frame.git import Git

log = get_logger(__name__)

MOST = 50
"""How many syncs are kept."""
MAX_CHANGED = 100
_SHORTEST = 7
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # git knows it without having it


@dataclass(frozen=True)
class Sync:
    """A commit, its verdict, and what it would change or changed.

    ``author`` is text of strangers, cleaned. ``committed`` is ISO 8601. ``before`` is the analysts'
    live before the verdict; ``changed`` are the first MAX_CHANGED of ``changes`` paths that differ
    between the two.
    """

    verdict: Verdict
    author: str = ""
    committed: str = ""
    before: str = ""
    changed: tuple[str, ...] = ()
    changes: int = 0

    def lines(self) -> list[str]:
        """Return the sync as lines for a terminal."""
        made = self.verdict
        counts = f"{len(made.findings)} findings, {len(made.exemptions)} exemptions"
        moved = f"live {self.before[:12]} -> {made.live[:12]}, {self.changes} files differ"
        return [
            f"{made.commit}  {made.outcome}  {made.time}  {made.reason}",
            f"    {self.author}, {self.committed}",
            f"    {counts}; {moved}",
        ]


def describe(git: Git, made: Verdict, before: str) -> Sync:
    """Return the sync of a verdict, by what ``git``, which holds the commit, tells of it."""
    try:
        said = git.text("show", "--no-patch", "--format=%an <%ae>%n%cI", made.commit)
        author, _, committed = said.rpartition("\n")
        names = git.run(
            "diff-tree", "-r", "-z", "--name-only", "--no-renames", _base(git, before), made.commit,
            seconds=30, most=8 * MEBIBYTE,
        ).split(b"\0")[:-1]  # fmt: skip
    except GitError as error:
        log.warning("the commit cannot be described", commit=made.commit, error=error.message)
        return Sync(made, before=before)
    shown = tuple(clean(name.decode(errors="replace")) for name in names[:MAX_CHANGED])
    return Sync(made, clean(author), clean(committed), before, shown, len(names))


def _base(git: Git, before: str) -> str:
    """Return what to compare with: nothing, if the fetch did not know ``before`` yet."""
    try:
        git.run("cat-file", "-e", f"{before}^{{commit}}")
    except GitError:
        return _EMPTY_TREE
    return before


def store(root: Path, sync: Sync) -> list[str]:
    """Keep ``sync``, in place of an earlier one of its commit; return which MOST commits are kept.

    They are the newest.
    """
    folder = root / "verdicts"
    folder.mkdir(exist_ok=True)
    write_json(folder / f"{sync.verdict.commit}.json", as_json(sync))
    commits = [each.verdict.commit for each in load(root)]
    for old in commits[MOST:]:
        (folder / f"{old}.json").unlink(missing_ok=True)
    return commits[:MOST]


def as_json(sync: Sync) -> dict[str, Any]:
    """Return the sync as it is stored and printed: its verdict, and more beside it."""
    return {
        **verdict.as_json(sync.verdict),
        "author": sync.author,
        "committed": sync.committed,
        "live_before": sync.before,
        "changed": list(sync.changed),
        "changes": sync.changes,
    }


def load(root: Path) -> list[Sync]:
    """Return what is kept, the newest first; what cannot be read is left out."""
    found = [_read(path) for path in (root / "verdicts").glob("*.json")]
    return sorted(
        (sync for sync in found if sync), key=lambda each: each.verdict.time, reverse=True
    )


def find(root: Path, commit: str) -> Sync:
    """Return the sync of ``commit``, an id or the beginning of one; WrongUse if it is unknown."""
    found = [sync for sync in load(root) if sync.verdict.commit.startswith(commit)]
    if not re.fullmatch(rf"[0-9a-f]{{{_SHORTEST},40}}", commit) or len(found) != 1:
        what = "means several commits" if len(found) > 1 else "is no commit that was judged"
        raise WrongUse(
            f"{clean(commit, 50)} {what}",
            f"Take one of the last {MOST} from `dag-sync history`, by {_SHORTEST} letters or more.",
        )
    return found[0]


def _read(path: Path) -> Sync | None:
    sync = from_json(read_json(path))
    return sync if sync and sync.verdict.commit == path.stem else None


def from_json(value: object) -> Sync | None:
    """Return the sync of untrusted JSON, cleaned; None if it is of another shape."""
    made = verdict.from_json(value)
    if made is None or not isinstance(value, dict):
        return None
    names, changes = value.get("changed"), value.get("changes")
    changed = names[:MAX_CHANGED] if isinstance(names, list) else []
    return Sync(
        made,
        clean(value.get("author", "")),
        clean(value.get("committed", "")),
        clean(value.get("live_before", "")),
        tuple(clean(name) for name in changed),
        changes if isinstance(changes, int) else 0,
    )

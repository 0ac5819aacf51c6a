"""What ``fetch`` hands to ``judge`` and ``publish``: a push that wants to become live.

It lies on the incoming volume, which ``judge`` mounts read-only, so strangers' code cannot
have written it.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from delivery.verdict import Finding, findings_from, read_json, write_json
from frame.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path

DAY = 24 * 60 * 60
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Candidate:
    """A commit of the analysts' branch.

    ``previous`` is the analysts' ``live`` when it was fetched, ``last`` the commit of the last
    verdict then; "" if there was none yet. ``judged`` means nothing new. ``refused`` are findings
    that need no code to run.
    """

    commit: str
    previous: str
    last: str
    judged: bool
    refused: tuple[Finding, ...] = ()


def folder(incoming: Path, alloc_id: str) -> Path:
    """Return the folder of one run."""
    return incoming / alloc_id


def save(run: Path, candidate: Candidate) -> None:
    """Write ``candidate.json``, the last thing of a fetch."""
    write_json(run / "candidate.json", asdict(candidate))


def load(run: Path) -> Candidate | None:
    """Return the candidate of the run; None if its fetch did not finish.

    Raises Failure if the file is there and makes no sense.
    """
    path = run / "candidate.json"
    if not path.exists():
        return None
    value = read_json(path)
    if (
        not isinstance(value, dict)
        or not _COMMIT.fullmatch(str(value.get("commit")))
        or not _COMMIT.fullmatch(str(value.get("previous")) or "0" * 40)
        or not _COMMIT.fullmatch(str(value.get("last")) or "0" * 40)
        or not isinstance(value.get("judged"), bool)
    ):
        raise Failure(
            f"{path} is not what fetch writes",
            "Check that only fetch and publish can write the incoming volume.",
        )
    return Candidate(
        value["commit"], value["previous"], value["last"], value["judged"],
        tuple(findings_from(value.get("refused"))),
    )  # fmt: skip


def remove(tree: Path) -> None:
    """Remove a folder of ours, its read-only parts too; absent is fine."""
    if not tree.is_dir() or tree.is_symlink():
        return
    for path in [tree, *(p for p in tree.rglob("*") if p.is_dir() and not p.is_symlink())]:
        path.chmod(0o755)
    shutil.rmtree(tree)


def remove_stale(incoming: Path, keep: str) -> list[str]:
    """Remove what runs that died left more than a day ago; return their names."""
    gone = []
    for run in sorted(incoming.iterdir()):
        if run.name != keep and run.is_dir() and time.time() - run.lstat().st_mtime > DAY:
            remove(run)
            gone.append(run.name)
    return gone

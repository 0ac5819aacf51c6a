"""Where ``live`` stands: at the newest sound commit, or at the one that an operator pinned.

What belongs there is written down first and ``live`` moved to it second, so a kill between the
two is put right by the next round.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery import bundle, mirror
from delivery.bundle import LIVE
from delivery.verdict import clean, read_json, write_json
from frame.failure import Failure, WrongUse
from frame.git import NOTHING, Git, GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

log = get_logger(__name__)

NEWEST = "refs/dag-sync/newest"
"""The newest sound commit. Airflow's bundle fetches heads and tags only, so it does not see it."""
REPLACED = "refs/tags/replaced/"
MAX_REPLACED = 50


@dataclass(frozen=True)
class Pin:
    """The commit that an operator holds ``live`` at; ``time`` is ISO 8601 in UTC."""

    commit: str
    because: str
    time: str


@dataclass(frozen=True)
class Standing:
    """Since when ``live`` is at a commit; ``time`` is ISO 8601 in UTC, "" if nobody noted it."""

    commit: str = ""
    time: str = ""


def load_pin(root: Path) -> Pin | None:
    """Return the pin of the mirror at ``root``; None if ``live`` follows the newest push."""
    return pin_from(read_json(root / "pin.json"))


def pin_from(value: object) -> Pin | None:
    """Return the pin of untrusted JSON, cleaned; None if it is of another shape."""
    if not isinstance(value, dict):
        return None
    return Pin(*(clean(value.get(key, "")) for key in ("commit", "because", "time")))


def load_standing(root: Path) -> Standing:
    """Return where ``live`` of the mirror at ``root`` was moved last."""
    return standing_from(read_json(root / "live.json"))


def standing_from(value: object) -> Standing:
    """Return the standing of untrusted JSON, cleaned; of another shape, that of nothing."""
    told = value if isinstance(value, dict) else {}
    return Standing(clean(told.get("commit", "")), clean(told.get("time", "")))


def pin(root: Path, commit: str, because: str) -> Pin:
    """Hold ``live`` at ``commit``, which was judged sound; Failure if the mirror lacks it."""
    if not clean(because).strip():
        raise WrongUse("a pin needs a reason", "Say it with --because, for those who find it.")
    with mirror.locked(root):
        mirror.prepare(root)
        _present(Git(mirror.repository(root, "analysts")), commit)
        made = Pin(commit, clean(because), datetime.now(UTC).isoformat(timespec="seconds"))
        write_json(root / "pin.json", asdict(made))
        log.info("pinned", commit=commit, because=made.because)
        settle(root)
    return made


def unpin(root: Path) -> str:
    """Let ``live`` follow the newest sound commit again and return that; repeatable."""
    with mirror.locked(root):
        mirror.prepare(root)
        (root / "pin.json").unlink(missing_ok=True)
        settle(root)
        return stands(Git(mirror.repository(root, "analysts")))


def settle(root: Path) -> None:
    """Move both ``live`` refs to where they belong; the lock must be held.

    The pipelines' moves first, so that a kill between is seen and done again. It is derived each
    time: another release of the platform may derive another commit.
    """
    analysts, pipelines = (Git(mirror.repository(root, name)) for name in ("analysts", "pipelines"))
    before = stands(analysts)
    pinned = load_pin(root)
    wanted = pinned.commit if pinned else analysts.ref(NEWEST) or before
    _present(analysts, wanted)
    old = pipelines.ref(LIVE) or NOTHING
    derived = bundle.derive(analysts, pipelines, wanted, old)
    if derived != old:
        pipelines.swap(LIVE, derived, old)
        log.info("moved live", repository="pipelines", commit=derived)
    if load_standing(root).commit != wanted:
        time = datetime.now(UTC).isoformat(timespec="seconds") if wanted != before else ""
        write_json(root / "live.json", asdict(Standing(wanted, time)))
    if wanted != before:
        _keep(analysts, before, wanted)
        analysts.swap(LIVE, wanted, before)
        log.info("moved live", repository="analysts", commit=wanted)


def _present(analysts: Git, commit: str) -> None:
    try:
        analysts.run("cat-file", "-e", f"{commit}^{{commit}}")
    except GitError as error:
        raise Failure(
            f"commit {commit} is not in the mirror, so live cannot be pinned to it",
            "Pin one of `dag-sync history` that was live, or let go with `dag-sync unpin`.",
        ) from error


def stands(analysts: Git) -> str:
    """Return the commit that ``live`` is at."""
    return analysts.ref(LIVE) or NOTHING


def _keep(analysts: Git, old: str, new: str) -> None:
    """Keep a commit that ``live`` leaves and ``new`` does not hold: runs may be pinned to it.

    As a tag, because Airflow's bundle fetches heads and tags only. The newest MAX_REPLACED stay.
    """
    if old == bundle.first_commit(analysts, "analysts"):
        return
    try:
        analysts.run("merge-base", "--is-ancestor", old, new)
    except GitError:
        name = f"{REPLACED}{old}"
        if analysts.ref(name) is None:
            analysts.swap(name, old, NOTHING)
        listed = analysts.text(
            "for-each-ref", "--sort=-committerdate", "--format=%(objectname)", REPLACED
        )
        for commit in [each for each in listed.split() if each != old][MAX_REPLACED - 1 :]:
            analysts.run("update-ref", "-d", f"{REPLACED}{commit}", commit)

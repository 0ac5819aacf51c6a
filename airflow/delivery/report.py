"""What the gate reports to those who may only look: one commit of ``verdicts.git`` on the mirror.

The mirror's files say it first, so it can be written again at any time. A commit has no parent, and
what it took the place of is pruned: the repository does not grow.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery import bundle, contents, history, live, mirror
from delivery.bundle import LIVE
from delivery.live import Pin, Standing
from delivery.verdict import Finding, clean, parse_json, read_json, write_json
from frame.git import MEBIBYTE, NOTHING, Git, GitError
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from delivery.contents import Contents
    from delivery.history import Sync

log = get_logger(__name__)

REPOSITORY = "verdicts"
MOST_BYTES = 32 * MEBIBYTE
"""What a report takes at most: MOST syncs, with a bound of each on its findings and its files."""
_FINDINGS_BYTES = 256 * 1024  # of a sync; three hundred findings as they usually are
_STATE, _SYNCS, _CONTENTS = b"state.json", b"syncs.json", b"contents.json"
# Longer than a reader needs between asking where the branch is and having what it names.
_PRUNED_AFTER = "1.hour.ago"
_LISTING_SECONDS = 5.0


@dataclass(frozen=True)
class Look:
    """The rounds' looks at the analysts' remote; times are ISO 8601 in UTC.

    ``seen`` is the last that went well, "" if none has; ``failing`` the first since then that did
    not, "" if the last one went well.
    """

    seen: str = ""
    failing: str = ""


@dataclass(frozen=True)
class Report:
    """What the gate knew at ``written``, which is "" before the first round.

    ``live`` has no commit while nothing was delivered; ``syncs`` are the newest first. ``contents``
    has the files of their commits, but for those with too many.
    """

    written: str = ""
    look: Look = field(default_factory=Look)
    live: Standing = field(default_factory=Standing)
    pin: Pin | None = None
    syncs: tuple[Sync, ...] = ()
    contents: Mapping[str, Contents] = field(default_factory=dict)


def looked(root: Path, *, well: bool) -> None:
    """Note how this round's look at the remote went; the lock must be held."""
    last, now = _load_look(root), _now()
    write_json(
        root / "look.json",
        asdict(Look(now) if well else replace(last, failing=last.failing or now)),
    )


def renew(root: Path) -> None:
    """Report how the mirror at ``root`` stands, as :func:`write`."""
    with mirror.locked(root):
        write(root)


def write(root: Path) -> None:
    """Report how the mirror at ``root`` stands; the lock must be held.

    What prevents it is logged: a report that is old says so itself.
    """
    git = Git(mirror.repository(root, REPOSITORY))
    try:
        syncs = history.load(root)[: history.MOST]
        made = bundle.lone_commit(
            git,
            {
                _STATE: _json(_state(root)),
                _SYNCS: _json([history.as_json(_within_bounds(sync)) for sync in syncs]),
                _CONTENTS: _json(contents.load(root, [each.verdict.commit for each in syncs])),
            },
            "Report",
            f"{datetime.now(UTC).timestamp():.0f} +0000",
        )
        git.swap(LIVE, made, git.ref(LIVE) or NOTHING)
        git.run("prune", f"--expire={_PRUNED_AFTER}")
    except (GitError, OSError) as error:
        log.warning("the report was not written", error=str(error))


def read(git: Git, commit: str) -> Report:
    """Return the report of a commit of the repository, cleaned. Raises GitError."""
    names = git.run("ls-tree", "-z", "--name-only", commit, seconds=_LISTING_SECONDS).split(b"\0")
    state, syncs, files = (
        parse_json(
            git.run("cat-file", "blob", f"{commit}:{name.decode()}", seconds=10, most=MOST_BYTES)
        )
        if name in names
        else None
        for name in (_STATE, _SYNCS, _CONTENTS)
    )
    told = state if isinstance(state, dict) else {}
    listed = syncs if isinstance(syncs, list) else []
    return Report(
        clean(told.get("written", "")),
        _look_from(told.get("look")),
        live.standing_from(told.get("live")),
        live.pin_from(told.get("pin")),
        tuple(sync for each in listed[: history.MOST] if (sync := history.from_json(each))),
        contents.from_json(files),
    )


def _state(root: Path) -> dict[str, object]:
    standing, pinned = live.load_standing(root), live.load_pin(root)
    analysts = Git(mirror.repository(root, "analysts"))
    if standing.commit == bundle.first_commit(analysts, "analysts"):
        standing = Standing()
    return {
        "written": _now(),
        "look": asdict(_load_look(root)),
        "live": asdict(standing),
        "pin": asdict(pinned) if pinned else None,
    }


def _within_bounds(sync: Sync) -> Sync:
    """Return the sync with as many of its findings as go in; the last one says how many do not."""
    left = _FINDINGS_BYTES
    kept: list[Finding] = []
    for finding in sync.verdict.findings:
        left -= len(_json(asdict(finding)))
        if left < 0:
            more = len(sync.verdict.findings) - len(kept)
            kept.append(Finding("", 0, "", f"{more} more findings are too long to be shown here"))
            break
        kept.append(finding)
    return replace(sync, verdict=replace(sync.verdict, findings=tuple(kept)))


def _load_look(root: Path) -> Look:
    return _look_from(read_json(root / "look.json"))


def _look_from(value: object) -> Look:
    told = value if isinstance(value, dict) else {}
    return Look(clean(told.get("seen", "")), clean(told.get("failing", "")))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

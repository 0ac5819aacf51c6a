"""Whether bucket and keys still are what backups are trusted by: rows of the coverage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.proof.coverage import Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backup.bucket.lifecycle import State
    from backup.proof.report import CopyCheck, DrillReport

NO_LOCK = ("none", "unknown")


def judge_rules(rules: Sequence[State]) -> Iterator[Row]:
    """Yield a row if a lifecycle rule is missing or different: B2 then keeps too short or long."""
    wrong = [f"{state.rule.prefix} {state.state}" for state in rules if not state.well]
    if wrong:
        yield Row(name="lifecycle", states=("rules not in place",), detail=", ".join(wrong))


def judge_lock(lock: str, pinned: str | None) -> Iterator[Row]:
    """Yield a row unless the bucket's object lock is the one that databases.toml pins.

    One that is not pinned is red too: its loss would be seen by nobody.
    """
    if lock != (pinned or lock) or (pinned is None and lock not in NO_LOCK):
        detail = f"the bucket has {lock}, databases.toml {pinned or 'no object_lock'}"
        yield Row(name="object lock", states=("object lock different",), detail=detail)


def judge_recovery(pinned: str | None) -> Iterator[Row]:
    """Yield a row if no recovery key is pinned: nobody would see that it is no recipient."""
    if pinned is None:
        detail = "write recovery_key into databases.toml, or set BACKUP_RECOVERY_KEY"
        yield Row(name="recovery key", states=("no recovery key pinned",), detail=detail)


def judge_copies(drills: Sequence[DrillReport]) -> Iterator[Row]:
    """Yield a row for each database whose monthly copy, when it was read last, was not whole."""
    last: dict[str, CopyCheck] = {
        drill.copy_check.database: drill.copy_check for drill in drills if drill.copy_check
    }
    for check in last.values():
        if not check.whole:
            name = f"monthly copy of {check.database}"
            yield Row(
                name=name, states=("copy not whole",), backup_id=check.backup_id,
                detail=check.finding,
            )  # fmt: skip

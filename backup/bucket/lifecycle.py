"""The bucket's lifecycle rules: how long B2 keeps a backup. Nothing here deletes one itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from backup.registry import DAILY, DRILLS, MONTHLY
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.bucket.store import Store

# Days from upload to hiding and from there to deleting: 30 days, and 13 months. Hiding is no more
# than a mark, and a hidden backup is listed and restored like any other. But a writer's key can
# hide, too: whoever misuses it leaves that long to be noticed.
DAILY_DAYS = (16, 14)
MONTHLY_DAYS = (367, 30)
DRILLS_DAYS = (731, 30)  # as long as the chart of drills goes back
UNFINISHED_DAYS = 2  # longer than any run may take
OLD = "of the old layout"


@dataclass(frozen=True)
class Rule:
    """What happens below ``prefix``; days are whole ones, None where nothing happens."""

    prefix: str
    hide_after: int | None
    delete_after: int | None
    cancel_after: int | None

    @classmethod
    def of(cls, rule: dict[str, Any]) -> Rule:
        """Return a rule as B2 tells it."""
        return cls(
            rule["fileNamePrefix"],
            rule.get("daysFromUploadingToHiding"),
            rule.get("daysFromHidingToDeleting"),
            rule.get("daysFromStartingToCancelingUnfinishedLargeFiles"),
        )

    def as_b2(self) -> dict[str, Any]:
        """Return the rule as B2 takes it."""
        return {
            "fileNamePrefix": self.prefix,
            "daysFromUploadingToHiding": self.hide_after,
            "daysFromHidingToDeleting": self.delete_after,
            "daysFromStartingToCancelingUnfinishedLargeFiles": self.cancel_after,
        }


@dataclass(frozen=True)
class State:
    """One rule of ours: ``state`` is in place, missing, different, or of the old layout."""

    rule: Rule
    state: str

    @property
    def well(self) -> bool:
        """Whether nothing is to be done about it."""
        return self.state not in ("missing", "different")

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self.rule), "state": self.state}


def wanted_rules(prefix: str) -> list[Rule]:
    """Return a rule for each folder below ``prefix``, however many databases are backed up."""
    folders = {DAILY: DAILY_DAYS, MONTHLY: MONTHLY_DAYS, DRILLS: DRILLS_DAYS}
    return [Rule(f"{prefix}/{folder}/", *days, UNFINISHED_DAYS) for folder, days in folders.items()]


def states(there: Sequence[Rule], prefix: str) -> list[State]:
    """Return how each rule below ``prefix`` is; other prefixes are not ours to tell of."""
    known = {rule.prefix: rule for rule in there}
    wanted = wanted_rules(prefix)
    found = [
        State(
            rule,
            "in place"
            if known.get(rule.prefix) == rule
            else "different"
            if rule.prefix in known
            else "missing",
        )
        for rule in wanted
    ]
    return found + [State(rule, OLD) for rule in _old_rules(there, prefix)]


def _old_rules(there: Sequence[Rule], prefix: str) -> list[Rule]:
    """Return the rules of before, one a database. What is below them ages as it was promised."""
    ours = {rule.prefix for rule in wanted_rules(prefix)}
    return [
        rule for rule in there if rule.prefix.startswith(f"{prefix}/") and rule.prefix not in ours
    ]


def apply(store: Store, prefix: str) -> list[State]:
    """Put the rules in place, once or again, and return how they are now.

    Rules of other prefixes stay as they are; one that overlaps with ours is an error. One of the
    old layout goes once nothing is left below it, if the key can list that.
    """
    wanted = wanted_rules(prefix)
    revision, rules = store.lifecycle_rules()
    there = [Rule.of(rule) for rule in rules]
    mine = {rule.prefix for rule in wanted}
    others = [rule for rule in there if rule.prefix not in mine]
    for other in others:
        for rule in wanted:
            if rule.prefix.startswith(other.prefix) or other.prefix.startswith(rule.prefix):
                raise Failure(
                    f"lifecycle rule for {other.prefix!r} overlaps with the one for {rule.prefix},"
                    " which B2 does not allow",
                    hint="Take the bucket's other rule away, or give the backups their own bucket.",
                )
    aged = [rule for rule in _old_rules(there, prefix) if _is_empty(store, rule.prefix)]
    others = [rule for rule in others if rule not in aged]
    if {*there} != {*others, *wanted}:
        store.set_lifecycle_rules([rule.as_b2() for rule in [*others, *wanted]], revision)
    _, rules = store.lifecycle_rules()
    return states([Rule.of(rule) for rule in rules], prefix)


def _is_empty(store: Store, folder: str) -> bool:
    try:
        return next(iter(store.list(folder.rstrip("/"))), None) is None
    except Failure:  # a key that sets rules need not be one that lists
        return False

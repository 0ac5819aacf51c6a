"""The bucket's lifecycle rules: how long B2 keeps a backup. Nothing here deletes one itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from backup.registry import MONTHLY
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.bucket.store import Store
    from backup.registry import Entry

# Days from upload to hiding and from there to deleting: 30 days, and 13 months. Hiding is no more
# than a mark, and a hidden backup is listed and restored like any other. But a writer's key can
# hide, too: whoever misuses it leaves that long to be noticed.
DAILY_DAYS = (16, 14)
MONTHLY_DAYS = (367, 30)
RULES_LIMIT = 100  # B2's own, for one bucket
UNFINISHED_DAYS = 2  # longer than any run may take


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
    """One rule of ours: ``state`` is in place, missing, different, or of no database any more."""

    rule: Rule
    state: str

    @property
    def well(self) -> bool:
        """Whether nothing is to be done about it."""
        return self.state not in ("missing", "different")

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {**asdict(self.rule), "state": self.state}


def wanted_rules(prefix: str, databases: Sequence[Entry]) -> list[Rule]:
    """Return a rule for each database's folder, as prefixes may not overlap, and the monthlies'."""
    daily = [
        Rule(f"{prefix}/{database.name}/", *DAILY_DAYS, UNFINISHED_DAYS) for database in databases
    ]
    return [*daily, Rule(f"{prefix}/{MONTHLY}/", *MONTHLY_DAYS, UNFINISHED_DAYS)]


def states(there: Sequence[Rule], prefix: str, databases: Sequence[Entry]) -> list[State]:
    """Return how each rule below ``prefix`` is; other prefixes are not ours to tell of."""
    known = {rule.prefix: rule for rule in there}
    wanted = wanted_rules(prefix, databases)
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
    ours = {rule.prefix for rule in wanted}
    # Kept: what such a folder still holds is to age away as it was promised.
    old = [
        State(rule, "of no database any more")
        for rule in there
        if rule.prefix.startswith(f"{prefix}/") and rule.prefix not in ours
    ]
    return found + old


def apply(store: Store, prefix: str, databases: Sequence[Entry]) -> list[State]:
    """Put the rules in place, once or again, and return how they are now.

    Rules of other prefixes stay as they are; one that overlaps with ours is an error.
    """
    wanted = wanted_rules(prefix, databases)
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
    if len(others) + len(wanted) > RULES_LIMIT:
        raise Failure(
            f"{len(others) + len(wanted)} lifecycle rules are wanted, a bucket has {RULES_LIMIT}",
            hint="Give this environment a bucket of its own, or take rules of what is gone away.",
        )
    if {*there} != {*others, *wanted}:
        store.set_lifecycle_rules([rule.as_b2() for rule in [*others, *wanted]], revision)
    _, rules = store.lifecycle_rules()
    return states([Rule.of(rule) for rule in rules], prefix, databases)

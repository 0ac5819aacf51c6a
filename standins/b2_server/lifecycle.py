"""Lifecycle rules: which are allowed, and what they would do to a file's versions at a time.

The rules are B2's: https://www.backblaze.com/docs/cloud-storage-lifecycle-rules
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from .clock import DAY_MS
from .errors import Json, bad_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .files import FileVersion

MAX_RULES = 100
_HIDE, _DELETE, _CANCEL = (
    "daysFromUploadingToHiding",
    "daysFromHidingToDeleting",
    "daysFromStartingToCancelingUnfinishedLargeFiles",
)
_DAYS = (_HIDE, _DELETE, _CANCEL)


def checked_rules(rules: object) -> list[Json]:
    """Return a bucket's rules with every field in place; raise on what B2 would refuse."""
    if not isinstance(rules, list) or len(rules) > MAX_RULES:
        raise bad_request(f"lifecycleRules must be a list of at most {MAX_RULES} rules")
    checked = [_checked_rule(rule) for rule in rules]
    prefixes = sorted(rule["fileNamePrefix"] for rule in checked)
    for shorter, longer in pairwise(prefixes):
        if longer.startswith(shorter):
            raise bad_request(
                f"lifecycleRules must not overlap: '{shorter}' and '{longer}' both apply to the"
                " same files"
            )
    return checked


def _checked_rule(rule: object) -> Json:
    if not isinstance(rule, dict) or not isinstance(rule.get("fileNamePrefix"), str):
        raise bad_request("every lifecycle rule must have a fileNamePrefix")
    if unknown := rule.keys() - {"fileNamePrefix", *_DAYS}:
        raise bad_request(f"unknown fields in a lifecycle rule: {', '.join(sorted(unknown))}")
    days = {name: rule.get(name) for name in _DAYS}
    for name, value in days.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise bad_request(f"{name} must be a number or null")
        if value is not None and value < 1:
            raise bad_request(f"{name} must be greater than zero")
    if not any(days.values()):
        raise bad_request("a lifecycle rule must set at least one number of days")
    return {"fileNamePrefix": rule["fileNamePrefix"], **days}


@dataclass(frozen=True)
class Due:
    """What a rule asks for now: a hide marker on the name, and versions to remove."""

    hide: bool
    remove: tuple[str, ...]


def due(rule: Json, versions: Sequence[FileVersion], now_ms: int) -> Due:
    """Say what ``rule`` does to all versions of one name, given newest first.

    A version counts as hidden from the moment that the next newer one came. A hide marker goes
    when it is the last one left. An unfinished large file neither hides nor is hidden.
    """

    def over(days: int | None, since_ms: int) -> bool:
        return days is not None and now_ms - since_ms >= days * DAY_MS

    remove = [
        version.file_id
        for version in versions
        if version.action == "start" and over(rule[_CANCEL], version.uploaded_ms)
    ]
    whole = [version for version in versions if version.action != "start"]
    for newer, older in pairwise(whole):
        if over(rule[_DELETE], newer.uploaded_ms):
            remove.append(older.file_id)
    if not whole:
        return Due(False, tuple(remove))
    newest = whole[0]
    if newest.action == "hide":
        if len(whole) == 1 and over(rule[_DELETE], newest.uploaded_ms):
            remove.append(newest.file_id)
        return Due(False, tuple(remove))
    return Due(over(rule[_HIDE], newest.uploaded_ms), tuple(remove))

"""The bucket's rules, and what B2 makes of them as days go by."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from b2sdk.v3 import BucketRetentionSetting, RetentionMode, RetentionPeriod
from b2sdk.v3.exception import AccessDenied

from backup.bucket.lifecycle import apply, states, wanted_rules
from backup.bucket.store import open_store
from backup.dump import run_backup
from frame.failure import Failure
from tests.backup.conftest import add_megabytes

if TYPE_CHECKING:
    from tests.backup.conftest import House

OTHER = {
    "fileNamePrefix": "staging/",
    "daysFromUploadingToHiding": 3,
    "daysFromHidingToDeleting": 1,
    "daysFromStartingToCancelingUnfinishedLargeFiles": None,
}


def applied(house: House) -> list[str]:
    with open_store(house.settings, house.settings.b2_key(), any_clock=True) as store:
        return [state.state for state in apply(store, "local")]


def test_rules_are_put_in_place_once_and_others_stay(empty_house: House) -> None:
    empty_house.bucket.update(lifecycle_rules=[OTHER])
    empty_house.use_key("writeBuckets")
    assert applied(empty_house) == ["in place"] * 3
    before = empty_house.bucket.get_fresh_state()
    assert OTHER in before.lifecycle_rules
    assert len(before.lifecycle_rules) == 4
    assert applied(empty_house) == ["in place"] * 3
    assert empty_house.bucket.get_fresh_state().revision == before.revision


def test_a_rule_of_the_old_layout_stays_until_what_it_holds_has_aged(empty_house: House) -> None:
    empty_house.bucket.update(lifecycle_rules=[{**OTHER, "fileNamePrefix": "local/hr/"}])
    empty_house.bucket.upload_bytes(b"x", "local/hr/a")
    rights = ("writeBuckets", "listFiles")
    for capabilities, days, left in (
        (rights, 0, True),
        (rights, 2, True),
        (rights[:1], 3, True),  # nothing is below it, but this key cannot tell
        (rights, 0, False),
    ):
        empty_house.endpoint.advance(days=days)
        empty_house.use_key(*capabilities)
        assert applied(empty_house)[3:] == (["of the old layout"] if left else [])


@pytest.mark.parametrize("prefix", ["", "loc", "local/daily/hr/"])
def test_a_rule_in_the_way_is_named_and_nothing_changed(empty_house: House, prefix: str) -> None:
    empty_house.bucket.update(lifecycle_rules=[{**OTHER, "fileNamePrefix": prefix}])
    empty_house.use_key("writeBuckets")
    with pytest.raises(Failure, match=f"lifecycle rule for '{prefix}' overlaps"):
        applied(empty_house)
    (rule,) = empty_house.bucket.get_fresh_state().lifecycle_rules
    assert rule["fileNamePrefix"] == prefix


def test_a_key_that_may_not_is_one_clear_error(empty_house: House) -> None:
    with pytest.raises(Failure, match="setting the lifecycle rules failed"):
        applied(empty_house)
    assert empty_house.bucket.get_fresh_state().lifecycle_rules == []


def test_what_differs_is_told() -> None:
    rules = wanted_rules("local")
    assert [state.state for state in states([], "local")] == ["missing"] * 3
    changed = [
        rule if number else type(rule)(rule.prefix, 1, 1, 1) for number, rule in enumerate(rules)
    ]
    found = [state.state for state in states(changed, "local")]
    assert found == ["different", "in place", "in place"]


def test_a_backup_is_kept_thirty_days_and_a_monthly_one_thirteen_months(empty_house: House) -> None:
    empty_house.use_key("writeBuckets")
    applied(empty_house)
    for name in ("local/daily/hr/a", "local/monthly/hr/a", "staging/hr/a"):
        empty_house.bucket.upload_bytes(b"x", name)
    empty_house.use_key("listFiles")

    # One session: this host's clock would be refused by the next.
    with open_store(empty_house.settings, empty_house.settings.b2_key()) as store:
        for days, there in (
            (20, ["local/daily/hr/a", "local/monthly/hr/a", "staging/hr/a"]),
            (9, ["local/daily/hr/a", "local/monthly/hr/a", "staging/hr/a"]),
            (3, ["local/monthly/hr/a", "staging/hr/a"]),
            (360, ["local/monthly/hr/a", "staging/hr/a"]),
            (10, ["staging/hr/a"]),
        ):
            empty_house.endpoint.advance(days=days)
            kept = [found.name for prefix in ("local", "staging") for found in store.list(prefix)]
            assert kept == there, days


def test_the_command_shows_and_applies(empty_house: House) -> None:
    empty_house.use_key("listFiles")
    shown = empty_house.run("lifecycle", "show", "--json")
    assert shown.returncode == 1
    assert [rule["state"] for rule in json.loads(shown.stdout)["rules"]] == ["missing"] * 3
    empty_house.use_key("writeBuckets")
    done = empty_house.run("lifecycle", "apply")
    assert (done.returncode, done.stdout.count("in place")) == (0, 3), done.stderr
    again = json.loads(empty_house.run("lifecycle", "apply", "--json").stdout)
    assert [rule["state"] for rule in again["rules"]] == ["in place"] * 3
    assert empty_house.run("lifecycle", "show").returncode == 0


def test_a_bucket_with_object_lock_takes_backups_that_nobody_deletes(house: House) -> None:
    house.use_key("writeBuckets")
    assert json.loads(house.run("lifecycle", "show", "--json").stdout)["object_lock"] == "unknown"
    house.use_key("readBucketRetentions")
    assert "object lock: none" in house.run("lifecycle", "show").stdout
    locked = house.endpoint.create_bucket(is_file_lock_enabled=True)
    period = RetentionPeriod(days=30)
    locked.update(default_retention=BucketRetentionSetting(RetentionMode.COMPLIANCE, period))
    house = dataclasses.replace(
        house, bucket=locked, settings=house.settings.model_copy(update={"bucket": locked.name})
    )
    add_megabytes(house.source, 12)  # a large file, as most are
    house.write()
    run_backup(house.settings, house.database)
    house.use_key("listFiles", "readFiles", "writeFiles")
    assert house.run("monthly", "hr").returncode == 0
    kept = [version for version, _ in locked.ls(latest_only=False, recursive=True)]
    assert len(kept) == 6, "dump, signature and manifest, each twice"
    for version in kept:
        with pytest.raises(AccessDenied):
            version.delete()
    house.use_key("readBucketRetentions")
    assert "object lock: compliance, 30 days" in house.run("lifecycle", "show").stdout

"""Whether bucket and keys still are what backups are trusted by."""

from __future__ import annotations

import json

import pytest

from backup.bucket.lifecycle import states, wanted_rules
from backup.dump import run_backup
from backup.proof.report import CopyCheck, DrillReport
from backup.proof.trust import judge_copies, judge_lock, judge_recovery, judge_rules
from tests.backup.conftest import SERVER, House, OpenPgpKey, database_entry
from tests.backup.examples import HOUR, NOW

LOCK = "compliance, 30 days"


def test_rules_that_are_missing_or_different_are_told() -> None:
    assert not list(judge_rules(states(wanted_rules("p"), "p")))
    (row,) = judge_rules(states(wanted_rules("p")[1:], "p"))
    assert (row.states, row.detail) == (("rules not in place",), "p/daily/ missing")


@pytest.mark.parametrize(
    ("lock", "pinned", "well"),
    [
        ("none", None, True),
        ("unknown", None, True),
        (LOCK, LOCK, True),
        (LOCK, None, False),  # its loss would be seen by nobody
        ("none", LOCK, False),
        ("unknown", LOCK, False),
        ("governance, 30 days", LOCK, False),
    ],
)
def test_an_object_lock_that_was_there_is_missed(
    lock: str, pinned: str | None, *, well: bool
) -> None:
    assert (not list(judge_lock(lock, pinned))) is well


def test_a_recovery_key_that_nobody_pinned_is_told() -> None:
    assert not list(judge_recovery("0A" * 20))
    (row,) = judge_recovery(None)
    assert row.states == ("no recovery key pinned",)


def test_a_copy_that_was_damaged_is_told_until_it_is_whole() -> None:
    def report(hours: int, *, whole: bool) -> DrillReport:
        check = CopyCheck(database="hr", backup_id="x", object_name="y", whole=whole, finding="z")
        when = NOW - hours * HOUR
        return DrillReport(started=when, finished=when, databases=(), copy_check=check)

    (row,) = judge_copies([report(2, whole=True), report(1, whole=False)])
    assert (row.name, row.states) == ("monthly copy of hr", ("copy not whole",))
    assert not list(judge_copies([report(2, whole=False), report(1, whole=True)]))


def coverage(house: House, **environment: str) -> set[str]:
    ended = house.run("coverage", "--json", **environment)
    return {state for row in json.loads(ended.stdout) for state in row["states"]}


def test_a_manifest_without_the_recovery_key_is_red(house: House, recovery_key: OpenPgpKey) -> None:
    run_backup(house.settings, house.database)
    house.read()
    house.secret("servers.json", json.dumps({"postgres": house.server.uri("postgres")}))
    for pinned, missing in ((recovery_key.fingerprint, False), ("0A" * 20, True)):
        red = coverage(house, BACKUP_RECOVERY_KEY=pinned)
        assert ("recovery key missing" in red, "no recovery key pinned" in red) == (missing, False)


def test_a_run_refuses_recipients_without_the_pinned_recovery_key(house: House) -> None:
    ended = house.run("run", "hr", BACKUP_RECOVERY_KEY="0A" * 20)
    assert (ended.returncode, "lacks the recovery key 0A0A" in ended.stderr) == (2, True)
    name = house.source.rpartition("/")[2]
    spaced = " ".join(["0b0b"] * 10)
    registry = f'recovery_key = "{spaced}"\n' + SERVER + database_entry("hr", dbname=name)
    house.settings.registry.write_text(registry)
    ended = house.run("run", "hr")
    assert (ended.returncode, "lacks the recovery key 0B0B" in ended.stderr) == (2, True)
    ended = house.run("run", "hr", BACKUP_RECOVERY_KEY="0A" * 20)
    assert (ended.returncode, "Pin one recovery key" in ended.stderr) == (2, True)
    assert house.names() == []


def test_a_private_key_among_the_recipients_is_refused(
    house: House, recovery_key: OpenPgpKey, drill_key: OpenPgpKey, manifest_key: OpenPgpKey
) -> None:
    for name, text in (
        ("recipients.asc", drill_key.public + recovery_key.private),
        ("manifest_recipient.asc", manifest_key.private),
    ):
        before = house.settings.secret(name)
        house.secret(name, text)
        ended = house.run("run", "hr")
        assert (ended.returncode, "holds a private key" in ended.stderr) == (2, True), ended.stderr
        house.secret(name, before)
    house.secret("manifest_recipient.asc", drill_key.public)
    ended = house.run("run", "hr")
    assert (ended.returncode, "make a key of its own" in ended.stderr.lower()) == (2, True)
    assert house.names() == []

"""The copies inside the bucket: once a month, whole, and restored like what they are copies of."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backup.bucket.catalogue import open_catalogue
from backup.bucket.monthly import due
from backup.dump import run_backup
from tests.backup.conftest import House, OpenPgpKey, add_megabytes, contents
from tests.backup.examples import NOW, backup

if TYPE_CHECKING:
    from backup.bucket.layout import Backup

DAY = timedelta(days=1)
TODAY, YESTERDAY, LAST_MONTH = backup("hr"), backup("hr", DAY), backup("hr", 25 * DAY)


@pytest.mark.parametrize(
    ("made", "kept", "expected"),
    [
        ([YESTERDAY, TODAY], [], [TODAY, YESTERDAY]),
        ([YESTERDAY, TODAY], [LAST_MONTH], [TODAY, YESTERDAY]),
        ([YESTERDAY, TODAY], [LAST_MONTH, YESTERDAY], []),
        ([LAST_MONTH], [], [LAST_MONTH]),
        ([LAST_MONTH], [LAST_MONTH], []),
        ([], [], []),
    ],
)
def test_the_newest_of_a_month_is_due(
    made: list[Backup], kept: list[Backup], expected: list[Backup]
) -> None:
    assert due(made, kept, NOW) == expected


def test_a_copy_is_made_once_and_restores_when_the_other_is_gone(
    house: House, drill_key: OpenPgpKey
) -> None:
    add_megabytes(house.source, 12)
    expected = contents(house.source)
    manifest = run_backup(house.settings, house.database)
    house.use_key("listFiles", "readFiles", "writeFiles")
    ended = house.run("monthly", "hr", "--json")
    assert ended.returncode == 0, ended.stderr
    assert [each["id"] for each in json.loads(ended.stdout)] == [manifest.id]
    copies = [name for name in house.names() if name.startswith("local/monthly/hr/")]
    assert len(copies) == 3
    assert "1 of 1 needed no copy: this month's is there" in house.run("monthly", "hr").stdout
    for version, _ in house.bucket.ls("local/daily/hr/", latest_only=False, recursive=True):
        version.delete()
    house.read()
    assert [json.loads(house.run("show", manifest.id, "--json").stdout)["id"]] == [manifest.id]
    house.secret("drill_key.asc", drill_key.private)
    target = house.server.create_database()
    ended = house.run("restore", "hr", "--into-env", "TARGET", TARGET=target)
    assert ended.returncode == 0, ended.stderr
    assert contents(target) == expected


def test_a_month_that_was_cut_short_is_finished_without_a_second_version(house: House) -> None:
    """One would hide the first, and of more than 5 GB, without a SHA-1, be nobody's twin."""
    run_backup(house.settings, house.database)
    house.use_key("listFiles", "readFiles", "writeFiles")
    behind_the_dump = {"operation": "copy_file", "kind": "status", "status": 400, "after": 1}
    house.endpoint.set_faults(behind_the_dump)
    assert house.run("monthly", "hr").returncode == 1
    house.endpoint.advance(seconds=2)
    assert house.run("monthly", "hr").returncode == 0
    assert len(list(house.bucket.ls("local/monthly/hr/", latest_only=False))) == 3
    with open_catalogue(house.settings) as catalogue:
        (copy,) = catalogue.kept("hr")
    assert copy.stood() is None


@pytest.mark.parametrize("size", [1, 12])
def test_junk_of_the_right_size_counts_as_no_copy(house: House, size: int) -> None:
    """Of a large file, the second case, B2 knows no SHA-1."""
    add_megabytes(house.source, size)
    manifest = run_backup(house.settings, house.database)
    house.use_key("listFiles", "readFiles", "writeFiles")
    name = f"local/monthly/hr/{manifest.id}.dump.zst.gpg"
    house.bucket.upload_bytes(bytes(manifest.dump.size), name)
    ended = house.run("monthly", "hr")
    assert (ended.returncode, f"object {name} is no copy of" in ended.stderr) == (1, True)
    marker = f"local/monthly/hr/{manifest.id}.manifest.json.gpg"
    assert marker not in house.names()
    house.bucket.upload_bytes(b"{}", marker)
    ended = house.run("monthly", "hr")
    assert (ended.returncode, "copy does not count" in ended.stderr) == (1, True)
    for version, _ in house.bucket.ls("local/monthly/", latest_only=False, recursive=True):
        version.delete()
    assert house.run("monthly", "hr").returncode == 0


def test_junk_under_an_id_of_its_own_is_not_this_months_copy(house: House) -> None:
    run_backup(house.settings, house.database)
    house.use_key("listFiles", "readFiles", "writeFiles")
    identifier = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-00000000"
    for suffix in (".dump.zst.gpg", ".manifest.json.gpg"):
        house.bucket.upload_bytes(b"{}", f"local/monthly/hr/{identifier}{suffix}")
    ended = house.run("monthly", "hr", "--json")
    assert (ended.returncode, len(json.loads(ended.stdout))) == (0, 1), ended.stderr


def test_the_newest_is_copied_that_is_trusted(house: House) -> None:
    good = run_backup(house.settings, house.database)
    for suffix in (".dump.zst.gpg", ".manifest.json.gpg"):
        house.bucket.upload_bytes(b"{}", f"local/daily/hr/20991231T000000Z-00000000{suffix}")
    house.use_key("listFiles", "readFiles", "writeFiles")
    ended = house.run("monthly", "hr", "--json")
    assert [each["id"] for each in json.loads(ended.stdout)] == [good.id]
    assert "newer backup passed over" in ended.stderr


def test_what_cannot_be_copied_is_told_behind_what_could(house: House) -> None:
    run_backup(house.settings, house.database)
    house.use_key("listFiles", "readFiles", "writeFiles")
    unknown = house.settings.secret("signers.json")
    house.secret("signers.json", "{}")
    ended = house.run("monthly", "hr")
    assert (ended.returncode, "has no key of hr" in ended.stderr) == (1, True)
    assert not [name for name in house.names() if "monthly" in name], "nobody knows whose it is"
    house.secret("signers.json", unknown)
    ended = house.run("monthly")
    assert ended.returncode == 1
    assert "postgres_globals has no backup" in ended.stderr
    assert [name for name in house.names() if name.startswith("local/monthly/hr/")]
    house.read()
    ended = house.run("monthly", "hr")
    assert ended.returncode == 0, "this month's is there, so nothing is written"

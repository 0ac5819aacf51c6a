"""Where backups are in the bucket, now and before, and what orders them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backup.bucket.layout import dump_name, manifest_name, merged, new_id, pair
from backup.bucket.versions import StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backup.bucket.layout import Backup

OLD = "20261120T010000Z-00000001"
NEW = "20261121T010000Z-00000000"
FUTURE = "20271121T010000Z-00000000"
MOMENT = datetime(2026, 11, 21, 1, 0, 7, tzinfo=UTC)


def objects(*names: str, uploaded: datetime = MOMENT) -> Iterable[StoredObject]:
    milliseconds = round(uploaded.timestamp() * 1000)
    return [StoredObject(name, f"id of {name}", 7, milliseconds) for name in names]


def one(folder: str, identifier: str, uploaded: datetime = MOMENT, copied: bool = False) -> Backup:
    names = dump_name(folder, identifier), manifest_name(folder, identifier)
    (backup,) = pair(folder, "hr", objects(*names, uploaded=uploaded), copied=copied)
    return backup


def test_an_id_is_its_time_in_utc_and_b2s_own_time_is_what_counts() -> None:
    assert new_id(datetime(2026, 11, 21, 1, tzinfo=UTC), "00000000") == NEW
    backup = one("p/daily/hr", NEW)
    assert backup.started == MOMENT
    assert backup.taken == datetime(2026, 11, 21, 1, tzinfo=UTC)


def test_a_host_whose_clock_is_a_year_ahead_makes_no_newest_backup() -> None:
    ahead = one("p/daily/hr", FUTURE, MOMENT - timedelta(days=1))
    assert ahead.taken == ahead.started == MOMENT - timedelta(days=1)
    assert merged([ahead, one("p/daily/hr", NEW)])[-1].id == NEW


def test_a_copy_is_as_old_as_what_it_is_a_copy_of() -> None:
    later = MOMENT + timedelta(days=3)
    assert one("p/monthly/hr", NEW, later, copied=True).started < MOMENT
    assert one("p/monthly/hr", FUTURE, later, copied=True).started == later


def test_what_is_put_beside_a_backup_under_its_id_takes_its_place_nowhere() -> None:
    made = one("p/hr", NEW)
    copy = one("p/monthly/hr", NEW, MOMENT + timedelta(days=2), copied=True)
    junk = one("p/daily/hr", NEW, MOMENT + timedelta(days=40))
    assert merged([junk, copy, made]) == [made]
    assert merged([junk, copy]) == [copy]


def test_only_a_dump_with_its_manifest_is_a_backup() -> None:
    found = pair(
        "p/daily/hr",
        "hr",
        objects(
            manifest_name("p/daily/hr", NEW),
            dump_name("p/daily/hr", NEW),
            dump_name("p/daily/hr", "20261122T010000Z-00000000"),
            manifest_name("p/daily/hr", "20261123T010000Z-00000000"),
            dump_name("p/daily/hr", OLD),
            f"p/daily/hr/{OLD}.manifest.json",
            "p/daily/hr/notes.txt",
            "p/daily/hr/x.manifest.json.gpg",
            "p/daily/hr/x.dump.zst.gpg",
        ),
    )
    assert [(backup.id, backup.encrypted) for backup in found] == [(OLD, False), (NEW, True)]


def test_of_two_manifests_the_encrypted_one_counts() -> None:
    names = (dump_name("p/hr", NEW), manifest_name("p/hr", NEW), f"p/hr/{NEW}.manifest.json")
    (backup,) = pair("p/hr", "hr", objects(*names))
    assert backup.encrypted


def test_an_id_without_a_date_is_of_no_time() -> None:
    backup = one("p/daily/hr", "20269999T010000Z-00000000")
    assert backup.taken == backup.started == MOMENT

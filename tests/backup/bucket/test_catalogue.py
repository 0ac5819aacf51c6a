from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backup.bucket.catalogue import Catalogue, dump_name, manifest_name, new_id, pair
from backup.bucket.store import StoredObject, open_store
from backup.openpgp.signature import Signers
from frame.failure import Failure
from tests.backup.conftest import House, make_database

if TYPE_CHECKING:
    from collections.abc import Iterable

OLD = "20261120T010000Z-00000001"
NEW = "20261121T010000Z-00000000"
TRUSTING = Signers(Path("/nowhere"), trusting=True)


def objects(*names: str) -> Iterable[StoredObject]:
    return [StoredObject(name, f"id of {name}", 7, 0) for name in names]


def test_an_id_is_its_time_in_utc() -> None:
    identifier = new_id(datetime(2026, 11, 21, 1, tzinfo=UTC), "00000000")
    assert identifier == NEW
    (backup,) = pair(
        "p/hr", "hr", objects(dump_name("p/hr", identifier), manifest_name("p/hr", identifier))
    )
    assert backup.started == datetime(2026, 11, 21, 1, tzinfo=UTC)


def test_only_a_dump_with_its_manifest_is_a_backup() -> None:
    found = pair(
        "p/hr",
        "hr",
        objects(
            manifest_name("p/hr", NEW),
            dump_name("p/hr", NEW),
            dump_name("p/hr", "20261122T010000Z-00000000"),
            manifest_name("p/hr", "20261123T010000Z-00000000"),
            dump_name("p/hr", OLD),
            manifest_name("p/hr", OLD),
            "p/hr/notes.txt",
            "p/hr/x.manifest.json",
            "p/hr/x.dump.zst.gpg",
        ),
    )
    assert [backup.id for backup in found] == [OLD, NEW]


def test_backups_and_their_ages_need_no_right_to_read(empty_house: House) -> None:
    for identifier in (NEW, OLD):
        empty_house.bucket.upload_bytes(b"dump!", dump_name("local/hr", identifier))
        empty_house.bucket.upload_bytes(b"{}", manifest_name("local/hr", identifier))
    with open_store(empty_house.settings, empty_house.settings.b2_key()) as store:
        *_, newest = Catalogue(store, "local").backups("hr")
        assert Catalogue(store, "local").backups("h") == []
    assert (newest.id, newest.size, newest.signature) == (NEW, 5, None)
    assert newest.age_seconds(datetime(2026, 11, 21, 2, tzinfo=UTC)) == 3600


def test_a_copy_stands_for_a_backup_that_has_aged_away(empty_house: House) -> None:
    for folder, identifiers in {"local/hr": [NEW], "local/monthly/hr": [OLD, NEW]}.items():
        for identifier in identifiers:
            empty_house.bucket.upload_bytes(b"dump!", dump_name(folder, identifier))
            empty_house.bucket.upload_bytes(b"{}", manifest_name(folder, identifier))
    with open_store(empty_house.settings, empty_house.settings.b2_key()) as store:
        found = Catalogue(store, "local").backups("hr")
    assert [backup.dump.name for backup in found] == [
        dump_name("local/monthly/hr", OLD),
        dump_name("local/hr", NEW),
    ]


def test_a_backup_that_is_not_there_is_an_error(empty_house: House) -> None:
    with (
        open_store(empty_house.settings, empty_house.settings.b2_key()) as store,
        pytest.raises(Failure, match="no backup at all of hr under local/"),
    ):
        Catalogue(store, "local").find([make_database("hr")])


@pytest.mark.parametrize("text", [b"", b"{}", b'{"version": 2}'])
def test_a_manifest_that_cannot_be_used_is_an_error(empty_house: House, text: bytes) -> None:
    empty_house.bucket.upload_bytes(b"dump!", dump_name("local/hr", NEW))
    empty_house.bucket.upload_bytes(text, manifest_name("local/hr", NEW))
    empty_house.read()
    with open_store(empty_house.settings, empty_house.settings.b2_key()) as store:
        catalogue = Catalogue(store, "local")
        with pytest.raises(Failure, match="cannot be used"):
            catalogue.manifest(catalogue.find([make_database("hr")], NEW), TRUSTING)


def test_a_manifest_under_another_name_is_an_error(backed_up: House) -> None:
    with open_store(backed_up.settings, backed_up.settings.b2_key()) as store:
        catalogue = Catalogue(store, "local")
        (backup,) = catalogue.backups("hr")
        data = store.get(backup.manifest.name, backup.manifest.file_id)
        backed_up.bucket.upload_bytes(b"dump!", dump_name("local/hr", OLD))
        backed_up.bucket.upload_bytes(data, manifest_name("local/hr", OLD))
        with pytest.raises(Failure, match="tells of local/hr/"):
            catalogue.manifest(catalogue.find([make_database("hr")], OLD), TRUSTING)

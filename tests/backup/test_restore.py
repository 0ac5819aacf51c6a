from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.catalogue import Catalogue
from backup.connection import PostgresUri
from backup.crypt import private_key
from backup.dump import run_backup
from backup.errors import BackupError
from backup.restore import Owners, restore, verify
from backup.store import open_store
from tests.backup.conftest import House, OpenPgpKey, add_megabytes, contents, make_key

if TYPE_CHECKING:
    from pathlib import Path


def restore_newest(house: House, target: str, jobs: int = 1, owners: Owners = "keep") -> None:
    """Restore the newest backup into ``target`` with the key and the rights of the drill."""
    settings = house.settings
    with (
        private_key(settings.secret_path("drill_key.asc"), settings.scratch) as ring,
        open_store(settings, settings.b2_key()) as store,
    ):
        catalogue = Catalogue(store, settings.prefix)
        manifest = catalogue.manifest(catalogue.find([house.database]))
        restore(
            store, manifest, ring, PostgresUri(target, "the test"),
            scratch=settings.scratch, pg_bin=settings.pg_bin, jobs=jobs, owners=owners,
        )  # fmt: skip


def left_on_disk(house: House) -> list[str]:
    return sorted(path.name for path in house.settings.scratch.iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_comes_back_is_equal_row_for_row(backed_up: House, jobs: int) -> None:
    target = backed_up.server.create_database()
    restore_newest(backed_up, target, jobs)
    assert contents(target) == contents(backed_up.source)
    assert left_on_disk(backed_up) == ["databases.toml", "secrets"]


def test_a_chosen_backup_by_another_key_into_a_target_from_a_file(
    backed_up: House, tmp_path: Path, recovery_key: OpenPgpKey
) -> None:
    expected = contents(backed_up.source)
    with psycopg.connect(backed_up.source, autocommit=True) as connection:
        connection.execute("DELETE FROM people")
    (first,) = [name for name in backed_up.names() if name.endswith(".json")]
    backed_up.write()
    run_backup(backed_up.settings, backed_up.database)
    backed_up.read()
    (backed_up.settings.secrets_dir / "drill_key.asc").unlink()
    (tmp_path / "recovery.asc").write_text(recovery_key.private)
    target = backed_up.server.create_database()
    (tmp_path / "target").write_text(target + "\n")
    ended = backed_up.run(
        "restore", "hr", "--into-file", str(tmp_path / "target"),
        "--id", first.removeprefix("local/hr/").removesuffix(".manifest.json"),
        "--key-file", str(tmp_path / "recovery.asc"),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert contents(target) == expected


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("CREATE TABLE precious (id int)", "relation precious"),
        ('CREATE SCHEMA "Old"', "schema Old"),
        ("CREATE FUNCTION f() RETURNS int RETURN 1", "function f"),
        ("SELECT lo_create(77)", "large object 77"),
    ],
)
def test_a_target_that_is_not_empty_is_refused(
    backed_up: House, statement: str, found: str
) -> None:
    target = backed_up.server.create_database()
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute(statement.encode())
    with pytest.raises(BackupError, match=f"is not empty: it has {found}"):
        restore_newest(backed_up, target)


@pytest.mark.parametrize("damage", ["flip_bit", "truncate"])
def test_a_damaged_object_never_reaches_the_target(
    house: House, drill_key: OpenPgpKey, damage: str
) -> None:
    add_megabytes(house.source, 12)
    manifest = run_backup(house.settings, house.database)
    amount = {"offset": 7_000_000} if damage == "flip_bit" else {"length": 9_000_000}
    house.endpoint.set_faults({"kind": damage, "file_id": manifest.dump.file_id, **amount})
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    target = house.server.create_database()
    with pytest.raises(BackupError, match=manifest.dump.name):
        restore_newest(house, target)
    assert contents(target) == {}
    assert left_on_disk(house) == ["databases.toml", "secrets"]


def test_a_sound_object_is_verified_and_a_damaged_one_is_not(
    house: House, drill_key: OpenPgpKey, tmp_path: Path
) -> None:
    manifest = run_backup(house.settings, house.database)
    house.read()
    (tmp_path / "key").write_text(drill_key.private)
    with (
        private_key(tmp_path / "key", house.settings.scratch) as ring,
        open_store(house.settings, house.settings.b2_key()) as store,
    ):
        verify(store, manifest, ring, scratch=house.settings.scratch)
        house.endpoint.set_faults(
            {"kind": "flip_bit", "file_id": manifest.dump.file_id, "offset": 999}
        )
        with pytest.raises(BackupError, match=manifest.dump.name):
            verify(store, manifest, ring, scratch=house.settings.scratch)


def test_the_wrong_key_never_reaches_the_target(backed_up: House, gnupg_home: Path) -> None:
    backed_up.secret("drill_key.asc", make_key(gnupg_home, "wrong@example.org").private)
    target = backed_up.server.create_database()
    with pytest.raises(BackupError, match="gpg ended with 2") as caught:
        restore_newest(backed_up, target)
    assert "key at hand is none of" in caught.value.hint
    assert contents(target) == {}


def test_a_full_disk_is_known_before_anything_is_downloaded(
    backed_up: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    target = backed_up.server.create_database()
    with pytest.raises(BackupError, match="has 10 bytes free"):
        restore_newest(backed_up, target)
    assert contents(target) == {}


def test_a_role_that_is_missing_is_told_or_skipped(house: House, drill_key: OpenPgpKey) -> None:
    role = sql.Identifier("owner of Ébène")
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(role))
        connection.execute(sql.SQL("ALTER TABLE people OWNER TO {}").format(role))
        manifest = run_backup(house.settings, house.database)
        connection.execute(sql.SQL("REASSIGN OWNED BY {} TO postgres").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))
    assert "owner of Ébène" in manifest.source.roles
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    target = house.server.create_database()
    with pytest.raises(BackupError, match="has no role owner of Ébène"):
        restore_newest(house, target)
    restore_newest(house, target, owners="skip")
    assert contents(target) == contents(house.source)

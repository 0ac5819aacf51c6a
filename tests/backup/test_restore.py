from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql

from backup.bucket.catalogue import open_catalogue
from backup.bucket.store import open_store
from backup.dump import run_backup
from backup.kinds.database import restore
from backup.openpgp.crypt import private_key
from backup.postgres.connection import PostgresUri
from backup.restoration.steps import Encrypted, Restored
from backup.restoration.target import Wanted
from backup.restoration.unpack import verify
from frame.failure import Failure, WrongUse
from tests.backup.conftest import (
    SERVER,
    House,
    OpenPgpKey,
    add_megabytes,
    contents,
    database_entry,
    make_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE_JOB = Wanted(1)


def restore_newest(
    house: House, target: str, wanted: Wanted = ONE_JOB, **changed: object
) -> Restored:
    """Restore the newest backup into ``target`` with the key and the rights of the drill."""
    settings = house.settings
    with (
        private_key(settings.secret_path("drill_key.asc")) as ring,
        open_catalogue(settings) as catalogue,
    ):
        manifest = catalogue.find(["hr"]).manifest.model_copy(update=changed)
        backup = Encrypted(catalogue.store, manifest, ring)
        return restore(settings, catalogue, backup, PostgresUri(target, "the test"), wanted)


def left_on_disk(house: House) -> list[str]:
    return sorted(path.name for path in house.settings.scratch.iterdir())


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_comes_back_is_equal_row_for_row(backed_up: House, jobs: int) -> None:
    target = backed_up.server.create_database()
    restore_newest(backed_up, target, Wanted(jobs))
    assert contents(target) == contents(backed_up.source)
    assert left_on_disk(backed_up) == ["databases.toml", "secrets"]


def test_a_chosen_backup_by_another_key_into_a_target_from_a_file(
    backed_up: House, tmp_path: Path, recovery_key: OpenPgpKey
) -> None:
    expected = contents(backed_up.source)
    with psycopg.connect(backed_up.source, autocommit=True) as connection:
        connection.execute("DELETE FROM people")
    (first,) = [name for name in backed_up.names() if name.endswith(".json.gpg")]
    backed_up.write()
    run_backup(backed_up.settings, backed_up.database)
    backed_up.read()
    (backed_up.settings.secrets_dir / "drill_key.asc").unlink()
    (tmp_path / "recovery.asc").write_text(recovery_key.private)
    target = backed_up.server.create_database()
    (tmp_path / "target").write_text(target + "\n")
    ended = backed_up.run(
        "restore", "hr", "--into-file", str(tmp_path / "target"),
        "--id", first.removeprefix("local/daily/hr/").removesuffix(".manifest.json.gpg"),
        "--key-file", str(tmp_path / "recovery.asc"),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert contents(target) == expected


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
    with pytest.raises(Failure, match=manifest.dump.name):
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
        private_key(tmp_path / "key") as ring,
        open_store(house.settings, house.settings.b2_key()) as store,
    ):
        verify(store, manifest, ring)
        house.endpoint.set_faults(
            {"kind": "flip_bit", "file_id": manifest.dump.file_id, "offset": 999}
        )
        with pytest.raises(Failure, match=manifest.dump.name):
            verify(store, manifest, ring)


def test_the_wrong_key_never_reaches_the_target(backed_up: House, gnupg_home: Path) -> None:
    backed_up.secret("drill_key.asc", make_key(gnupg_home, "wrong@example.org").private)
    target = backed_up.server.create_database()
    with pytest.raises(Failure, match="private key at hand is") as caught:
        restore_newest(backed_up, target)
    assert "--key-file" in caught.value.hint
    assert contents(target) == {}


@contextmanager
def small_disk(house: House, megabytes: int) -> Iterator[Path]:
    small = house.settings.scratch / "small"
    small.mkdir()
    size = f"size={megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "backup-test", small], check=True)
    try:
        yield small
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.fixture
def long(house: House, drill_key: OpenPgpKey) -> House:
    """An environment whose database takes little room and is 15 MB long in plain."""
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE long AS SELECT n, repeat('long', 500000) FROM generate_series(1, 15) n"
        )
    run_backup(house.settings, house.database)
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    return house


def test_a_disk_without_room_is_known_before_anything_is_made(long: House) -> None:
    target = long.server.uri("never_made")
    with small_disk(long, 20) as small:
        ended = long.run(
            "restore", "hr", "--into-env", "TARGET", "--create", TARGET=target,
            BACKUP_SCRATCH=str(small),
        )  # fmt: skip
        assert list(small.iterdir()) == []
    assert ended.returncode == 1
    assert re.search(
        r"[\d,]+ bytes free on the scratch disk, the plain dump takes 3\d,", ended.stderr
    )
    assert "point BACKUP_SCRATCH at a larger disk" in ended.stderr
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(target)


def test_a_disk_that_fills_up_meanwhile_is_told_and_nothing_waits(long: House) -> None:
    """By an old manifest, which does not say how long the plain dump is."""
    target = long.server.create_database()
    with small_disk(long, 20) as small:
        settings = long.settings.model_copy(update={"scratch": small})
        elsewhere = dataclasses.replace(long, settings=settings)
        with pytest.raises(Failure, match="No space left on device") as caught:
            restore_newest(elsewhere, target, plain_size=None)
        assert list(small.iterdir()) == []
    assert "point BACKUP_SCRATCH at a larger disk" in caught.value.hint
    assert contents(target) == {}


def test_a_target_that_holds_other_things_is_taken_on_demand(backed_up: House) -> None:
    target = backed_up.server.create_database()
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE TABLE other AS SELECT 1 AS n")
    restore_newest(backed_up, target, Wanted(1, beside=True))
    assert contents(target) == contents(backed_up.source) | {"public.other": ["(1)"]}
    with pytest.raises(Failure, match=r"is not empty: it has .* relation public\.empty"):
        restore_newest(backed_up, target, Wanted(1, beside=True))
    assert contents(target) == contents(backed_up.source) | {"public.other": ["(1)"]}


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
    with pytest.raises(Failure, match="has no role owner of Ébène"):
        restore_newest(house, target)
    restore_newest(house, target, Wanted(1, "skip"))
    assert contents(target) == contents(house.source)

    other = house.server.create_database()
    restore_newest(house, other, Wanted(1, create_roles=True))
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'people'"
    with psycopg.connect(other, autocommit=True) as connection:
        assert connection.execute(owner).fetchone() == ("owner of Ébène",)
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_database_is_made_on_demand_and_only_once(backed_up: House, tmp_path: Path) -> None:
    target = backed_up.server.uri("made = on 'demand'".replace(" ", "%20"))
    (tmp_path / "target").write_text(target)
    arguments = ("restore", "hr", "--into-file", str(tmp_path / "target"))
    missing = backed_up.run(*arguments)
    assert (missing.returncode, "there is no database made" in missing.stderr) == (1, True)
    done = backed_up.run(*arguments, "--create", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["into"] == "made = on 'demand'"
    assert contents(target) == contents(backed_up.source)
    again = backed_up.run(*arguments, "--create")
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)


def test_a_database_that_is_made_is_like_the_one_that_was(
    house: House, drill_key: OpenPgpKey
) -> None:
    name = 'Ünlike "it"'
    with psycopg.connect(house.server.uri("postgres"), autocommit=True) as connection:
        made = sql.SQL(
            "CREATE DATABASE {} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-GH'"
        )
        connection.execute(made.format(sql.Identifier(name)))
        for setting in (
            'search_path TO "a b", public',
            "harmattan.motto TO 'it''s; two\nlines'",
        ):
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {}").format(sql.Identifier(name), sql.SQL(setting))
            )
        connection.execute(
            sql.SQL("ALTER ROLE postgres IN DATABASE {} SET work_mem TO '7MB'").format(
                sql.Identifier(name)
            )
        )
    source, target = (house.server.uri(quote(each, safe="")) for each in (name, 'back "again"'))
    role = house.settings.secret("database_uri").rpartition("/")[0]
    house.secret("database_uri", f"{role}/{quote(name, safe='')}")
    house.settings.registry.write_text(SERVER + database_entry("hr", dbname=name))
    assert house.run("run", "hr").returncode == 0
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    arguments = ("restore", "hr", "--into-env", "TARGET", "--create")
    assert house.run(*arguments, TARGET=target, BACKUP_SCRATCH="/proc").returncode == 2
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(target)
    ended = house.run(*arguments, TARGET=target)
    assert ended.returncode == 0, ended.stderr
    assert "setting not restored" not in ended.stderr
    looks = []
    for uri in (source, target):
        with psycopg.connect(uri) as connection:
            looks.append(
                connection.execute(
                    "SELECT current_setting('search_path'), current_setting('harmattan.motto'),"
                    " current_setting('work_mem'), datlocprovider, daticulocale"
                    " FROM pg_database WHERE datname = current_database()"
                ).fetchone()
            )
    assert looks[0] == looks[1] == (
        '"a b", public', "it's; two\nlines", "7MB", "i", looks[0][4]
    )  # fmt: skip


def test_a_moment_chooses_the_backup_before_it(house: House, drill_key: OpenPgpKey) -> None:
    first = run_backup(house.settings, house.database)
    time.sleep(1.1)  # ids tell seconds
    second = run_backup(house.settings, house.database)
    house.read()
    with open_catalogue(house.settings) as catalogue:

        def found(at: datetime) -> str:
            return catalogue.find(["hr"], at=at).backup.id

        assert found(datetime.now(UTC)) == second.id
        assert found(first.started) == first.id
        with pytest.raises(Failure, match=r"no backup at all from .* UTC or before of hr"):
            found(first.started - timedelta(minutes=1))
    house.secret("drill_key.asc", drill_key.private)
    target = house.server.create_database()
    chosen = house.run(
        "restore", "hr", "--into-env", "TARGET", "--json",
        "--at", f"{first.started:%Y-%m-%dT%H:%M:%S}", TARGET=target,
    )  # fmt: skip
    assert json.loads(chosen.stdout)["id"] == first.id
    wrong = house.run("restore", "hr", "--into-env", "TARGET", "--at", "yesterday", TARGET=target)
    assert (wrong.returncode, "'yesterday' is not understood" in wrong.stderr) == (2, True)


def test_a_partitioned_table_comes_back_beside_itself_under_another_schema(
    backed_up: House,
) -> None:
    before = contents(backed_up.source)
    done = backed_up.run(
        "restore", "hr", "--into-env", "TARGET", "--table", "public.marks",
        "--into-schema", "yester day", TARGET=backed_up.source,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    old = {f"yester day.{name}": before[f"public.{name}"] for name in ("marks_1", "marks_2")}
    assert contents(backed_up.source) == before | old


def test_one_table_comes_back_beside_what_is_there(backed_up: House) -> None:
    target = backed_up.server.create_database()
    odd = 'odd "schema'
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('well', 'unwell'); CREATE TABLE other ()")
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(odd)))
    tables = ("public.people", f"{odd}.Täble")
    restore_newest(backed_up, target, Wanted(1, tables=tables))
    wanted = contents(backed_up.source)
    assert contents(target) == {"public.other": []} | {name: wanted[name] for name in tables}
    with psycopg.connect(target) as connection:
        keys = "SELECT conname FROM pg_constraint WHERE contype = 'p' AND oid >= 16384 ORDER BY 1"
        assert connection.execute(keys).fetchall() == [("Täble_pkey",), ("people_pkey",)]
    with pytest.raises(Failure, match=r"relation public\.people"):
        restore_newest(backed_up, target, Wanted(1, tables=tables[:1]))
    with pytest.raises(WrongUse, match="holds no table people"):
        restore_newest(backed_up, target, Wanted(1, tables=("people",)))
    fresh = backed_up.server.uri("never_made")
    with pytest.raises(WrongUse, match="holds no table people"):
        restore_newest(backed_up, fresh, Wanted(1, tables=("people",), create=True))
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(fresh)


def test_a_table_is_told_from_those_whose_names_begin_like_it(
    house: House, drill_key: OpenPgpKey
) -> None:
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "a.b"; CREATE TABLE "a.b".t AS SELECT 1 AS n')
        connection.execute('CREATE TABLE "people x" AS SELECT 2 AS n')
    run_backup(house.settings, house.database)
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    wanted = contents(house.source)
    target = house.server.create_database()
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA \"a.b\"; CREATE TYPE mood AS ENUM ('well', 'unwell')")
    for table in ("a.b.t", "public.people", "public.people x"):
        restore_newest(house, target, Wanted(2, tables=(table,)))
        assert contents(target)[table] == wanted[table]
    assert len(contents(target)) == 3


def test_what_left_the_registry_is_listed_shown_verified_and_restored(backed_up: House) -> None:
    backed_up.settings.registry.write_text(SERVER + database_entry("other"))
    listed = json.loads(backed_up.run("list", "--json").stdout)
    assert [(each["database"], each["size"] > 0) for each in listed] == [("hr", True)]
    identifier = listed[0]["id"]
    assert json.loads(backed_up.run("list", "hr", "--json").stdout) == listed
    assert json.loads(backed_up.run("show", identifier, "--json").stdout)["database"] == "hr"
    assert backed_up.run("verify", identifier).returncode == 0
    target = backed_up.server.create_database()
    ended = backed_up.run("restore", "hr", "--into-env", "TARGET", TARGET=target)
    assert ended.returncode == 0, ended.stderr
    assert contents(target) == contents(backed_up.source)
    stranger = backed_up.run("list", "nobody")
    assert stranger.returncode == 2
    assert "'nobody' is neither in the registry nor in the bucket" in stranger.stderr
    assert "postgres_globals, other, hr" in stranger.stderr

"""Which backups there are, which of them is trusted, and what is held against what is signed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backup.bucket.catalogue import open_catalogue
from backup.bucket.layout import dump_name, manifest_name
from backup.dump import run_backup
from backup.openpgp.signature import NotTrusted, signer
from frame.failure import Failure, WrongUse
from tests.backup.conftest import House, add_megabytes, contents, publish
from tests.backup.examples import manifest_of

if TYPE_CHECKING:
    from tests.backup.conftest import OpenPgpKey

OLD = "20261120T010000Z-00000001"
NEW = "20261121T010000Z-00000000"
DAILY, MONTHLY = "local/daily/hr", "local/monthly/hr"


def put(house: House, folder: str, identifier: str, manifest: bytes = b"{}") -> None:
    """Put a dump of five bytes and a manifest that nobody signed."""
    house.bucket.upload_bytes(b"dump!", dump_name(folder, identifier))
    house.bucket.upload_bytes(manifest, manifest_name(folder, identifier))


def as_of_old(house: House) -> None:
    """Make of the newest backup one as it was made before: another folder, a plain manifest."""
    with open_catalogue(house.settings) as catalogue:
        chosen = catalogue.find(["hr"])
        dump = b"".join(catalogue.store.stream("the dump", chosen.backup.dump.file_id))
    for version, _ in house.bucket.ls(DAILY, latest_only=False, recursive=True):
        version.delete()
    name = dump_name("local/hr", chosen.backup.id)
    stored = house.bucket.upload_bytes(dump, name)
    place = {"name": name, "file_id": stored.id_, "sha1": None}
    of_old = chosen.manifest.dump.model_copy(update=place)
    data = chosen.manifest.model_copy(update={"dump": of_old}).to_json()
    marker = f"local/hr/{chosen.backup.id}.manifest.json"
    with signer(house.settings.secret_path("signing_key.asc")) as signing:
        house.bucket.upload_bytes(signing.sign(data), f"{marker}.asc")
    house.bucket.upload_bytes(data, marker)


def test_backups_and_their_ages_need_no_right_to_read(empty_house: House) -> None:
    for identifier in (OLD, NEW):
        put(empty_house, DAILY, identifier)
        empty_house.endpoint.advance(seconds=2)
    with open_catalogue(empty_house.settings) as catalogue:
        *_, newest = catalogue.backups("hr")
        assert catalogue.backups("h") == []
    assert (newest.id, newest.size, newest.signature) == (NEW, 5, None)
    assert newest.age_seconds(newest.started + timedelta(hours=1)) == 3600


def test_a_key_that_is_bound_to_daily_lists_what_is_there(empty_house: House) -> None:
    """As the writer's, which cannot reach the copies and the reports."""
    put(empty_house, DAILY, NEW)
    put(empty_house, MONTHLY, OLD)
    empty_house.use_key("listFiles", "writeFiles", prefix="local/daily/")
    listed = json.loads(empty_house.run("list", "--json").stdout)
    assert [(each["id"], each["state"]) for each in listed] == [(NEW, None)]
    with open_catalogue(empty_house.settings) as catalogue:
        for name in ("local/monthly/hr/a", "local/drills/a.json", "local/hr/a"):
            with pytest.raises(Failure, match=f"upload of {name} failed"):
                catalogue.store.put(name, b"{}")


def test_a_list_tells_which_backups_are_trusted(backed_up: House) -> None:
    put(backed_up, DAILY, NEW)
    listed = json.loads(backed_up.run("list", "hr", "--json").stdout)
    good, bad = (each["state"] for each in listed)
    assert "is not signed" in bad
    assert "trusted" not in good
    assert "not trusted" in backed_up.run("list", "hr").stdout


def test_what_is_no_job_s_is_not_shown(backed_up: House) -> None:
    """A name with what steers a terminal, or with the words of a style."""
    for name in ("a\x9b31mred", "[red]"):
        put(backed_up, f"local/daily/{name}", NEW)
    listed = json.loads(backed_up.run("list", "--json").stdout)
    assert {each["database"] for each in listed} == {"hr"}


@pytest.mark.parametrize("suffix", ["", ".asc"])
def test_what_is_too_long_for_a_manifest_is_not_read(backed_up: House, suffix: str) -> None:
    """Else somebody with the writer's key takes the memory of who reads it."""
    put(backed_up, DAILY, NEW)
    name = manifest_name(DAILY, OLD)
    backed_up.bucket.upload_bytes(b"dump!", dump_name(DAILY, OLD))
    long = bytes((16 << 20) + 1)
    backed_up.bucket.upload_bytes(b"{}" if suffix else long, name)
    backed_up.bucket.upload_bytes(long if suffix else b"", f"{name}.asc")
    with open_catalogue(backed_up.settings) as catalogue:
        with pytest.raises(NotTrusted, match=r"has 16777217 bytes, 16777216 at most are read"):
            catalogue.find(["hr"], OLD)
        assert catalogue.find(["hr"]).backup.id not in (OLD, NEW)


def test_a_copy_stands_for_a_backup_that_has_aged_away(empty_house: House) -> None:
    put(empty_house, DAILY, NEW)
    put(empty_house, MONTHLY, OLD)
    put(empty_house, MONTHLY, NEW)
    with open_catalogue(empty_house.settings) as catalogue:
        found = catalogue.backups("hr")
    assert [backup.dump.name for backup in found] == [
        dump_name(MONTHLY, OLD),
        dump_name(DAILY, NEW),
    ]


def test_a_backup_that_is_not_there_is_an_error(empty_house: House) -> None:
    with (
        open_catalogue(empty_house.settings) as catalogue,
        pytest.raises(Failure, match="no backup at all of hr under local/"),
    ):
        catalogue.find(["hr"])


WITHOUT_ZONE = manifest_of().to_json().replace(b":00Z", b":00")


@pytest.mark.parametrize("text", [b"", b"{}", b'{"version": 2}', WITHOUT_ZONE])
def test_a_manifest_that_cannot_be_used_is_an_error(empty_house: House, text: bytes) -> None:
    empty_house.bucket.upload_bytes(b"dump!", dump_name("local/hr", NEW))
    empty_house.bucket.upload_bytes(text, f"local/hr/{NEW}.manifest.json")
    empty_house.read()
    with (
        open_catalogue(empty_house.settings, unsigned=True) as catalogue,
        pytest.raises(Failure, match="cannot be used"),
    ):
        catalogue.find(["hr"], NEW)


def test_a_manifest_under_another_name_is_an_error(backed_up: House) -> None:
    with open_catalogue(backed_up.settings) as catalogue:
        (backup,) = catalogue.backups("hr")
        assert backup.signature
        backed_up.bucket.upload_bytes(b"dump!", dump_name(DAILY, OLD))
        for place, suffix in ((backup.signature, ".asc"), (backup.manifest, "")):
            data = catalogue.store.get(place.name, place.file_id)
            backed_up.bucket.upload_bytes(data, manifest_name(DAILY, OLD) + suffix)
        with pytest.raises(NotTrusted, match="tells of local/daily/hr/"):
            catalogue.find(["hr"], OLD)


def test_many_manifests_are_opened_in_their_order(house: House, drill_key: OpenPgpKey) -> None:
    made = [run_backup(house.settings, house.database) for _ in range(3)]
    put(house, DAILY, OLD)
    house.read()
    with open_catalogue(house.settings) as catalogue:
        backups = sorted(catalogue.backups("hr"), key=lambda backup: backup.id)
        opened = catalogue.manifests(backups)
    assert isinstance(opened[0], NotTrusted)
    assert opened[1:] == sorted(made, key=lambda manifest: manifest.id)


@pytest.mark.parametrize("key", ["drill_key.asc", "manifest_key.asc"])
def test_a_manifest_is_opened_by_whichever_key_is_at_hand(backed_up: House, key: str) -> None:
    for name in {"drill_key.asc", "manifest_key.asc"} - {key}:
        (backed_up.settings.secrets_dir / name).unlink()
    ended = backed_up.run("list", "--json")
    (backup,) = json.loads(ended.stdout)
    assert backed_up.run("show", backup["id"]).returncode == 0
    verified = backed_up.run("verify", backup["id"])
    assert (verified.returncode == 0) == (key == "drill_key.asc"), "the other opens no dump"


def test_a_manifest_needs_a_key_that_is_told_where_there_is_none(
    backed_up: House, gnupg_home: object
) -> None:
    secrets = backed_up.settings.secrets_dir
    (secrets / "drill_key.asc").unlink()
    (secrets / "manifest_key.asc").rename(secrets / "elsewhere.asc")
    with (
        open_catalogue(backed_up.settings) as catalogue,
        pytest.raises(WrongUse, match="no private key is at hand"),
    ):
        catalogue.find(["hr"])
    key_file = secrets / "elsewhere.asc"
    with open_catalogue(backed_up.settings, key_file=key_file) as catalogue:
        assert catalogue.find(["hr"]).passed_over == ()


def test_a_reader_of_the_bucket_can_guess_nothing(backed_up: House) -> None:
    """A salary was found by 200,000 guesses at a digest that stood in the manifest."""
    known = [b"people", b"public", b"pg_dump", b'"rows"', b"dumper", b"version"]
    for version, _ in backed_up.bucket.ls(recursive=True):
        response = backed_up.bucket.download_file_by_id(version.id_).response
        data = response.content
        assert not [word for word in known if word in data], version.file_name


def test_the_newest_trusted_backup_is_the_default_and_what_was_passed_over_is_told(
    backed_up: House,
) -> None:
    with open_catalogue(backed_up.settings) as catalogue:
        (good,) = catalogue.backups("hr")
    backed_up.endpoint.advance(seconds=2)
    put(backed_up, DAILY, "20200101T010000Z-00000000")
    put(backed_up, DAILY, "20991231T010000Z-00000000")
    target = backed_up.server.create_database()
    ended = backed_up.run("restore", "hr", "--into-env", "TARGET", "--json", TARGET=target)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["id"] == good.id
    assert {each["id"] for each in told["passed_over"]} == {
        "20200101T010000Z-00000000", "20991231T010000Z-00000000",
    }  # fmt: skip
    assert ended.stderr.count("newer backup passed over") == 2
    assert "is not signed" in ended.stderr
    assert contents(target) == contents(backed_up.source)


def test_a_host_whose_clock_is_off_makes_nothing_and_still_restores(backed_up: House) -> None:
    backed_up.endpoint.advance(seconds=330)
    try:
        backed_up.use_key("listFiles", "readFiles", "writeFiles")
        for words in (("run", "hr"), ("monthly", "hr"), ("drill", "hr")):
            ended = backed_up.run(*words, unprivileged=True)
            assert (ended.returncode, "clock of this host is 3" in ended.stderr) == (1, True), words
        target = backed_up.settings.scratch / "plain"
        ended = backed_up.run("restore", "hr", "--to", str(target))
        assert ended.returncode == 0, ended.stderr
        assert "clock of this host is 3" in ended.stderr
    finally:
        backed_up.endpoint.reset_clock()
    assert len([name for name in backed_up.names() if name.endswith(".gpg")]) == 2


def test_one_run_by_a_clock_of_next_year_is_not_the_newest_for_ever(backed_up: House) -> None:
    with open_catalogue(backed_up.settings) as catalogue:
        chosen = catalogue.find(["hr"])
        dump = b"".join(catalogue.store.stream("the dump", chosen.backup.dump.file_id))
    next_year = "20271121T010000Z-00000000"
    stored = backed_up.bucket.upload_bytes(dump, dump_name(DAILY, next_year))
    ahead = chosen.manifest.started + timedelta(days=365)
    place = {"name": stored.file_name, "file_id": stored.id_}
    made = {
        "id": next_year,
        "started": ahead,
        "finished": ahead,
        "dump": chosen.manifest.dump.model_copy(update=place),
    }
    publish(backed_up, chosen.manifest.model_copy(update=made))
    backed_up.write()
    newest = run_backup(backed_up.settings, backed_up.database)
    backed_up.read()
    with open_catalogue(backed_up.settings) as catalogue:
        assert catalogue.find(["hr"]).manifest.id == newest.id
        assert [each.id for each in catalogue.backups("hr")][1] == next_year


@pytest.mark.parametrize("suffix", [".manifest.json.gpg", ".manifest.json.gpg.asc"])
def test_a_newest_whose_manifest_is_damaged_is_passed_over(backed_up: House, suffix: str) -> None:
    with open_catalogue(backed_up.settings) as catalogue:
        (good,) = catalogue.backups("hr")
    backed_up.write()
    newest = run_backup(backed_up.settings, backed_up.database)
    backed_up.read()
    (found,) = [
        version
        for version, _ in backed_up.bucket.ls(recursive=True)
        if version.file_name.endswith(f"{newest.id}{suffix}")
    ]
    fault = {"kind": "flip_bit", "file_id": found.id_, "offset": found.size // 2}
    backed_up.endpoint.set_faults(fault)
    with open_catalogue(backed_up.settings) as catalogue:
        chosen = catalogue.find(["hr"])
    assert (chosen.backup.id, chosen.passed_over[0].id) == (good.id, newest.id)


def test_unsigned_ones_are_taken_by_their_id_alone(backed_up: House) -> None:
    ended = backed_up.run("restore", "hr", "--to", "/never", "--unsigned")
    assert (ended.returncode, "so it is not chosen for you" in ended.stderr) == (2, True)
    at = datetime.now(UTC).isoformat()
    ended = backed_up.run("restore", "hr", "--to", "/never", "--unsigned", "--at", at)
    assert ended.returncode == 2


def test_none_that_is_trusted_is_one_error(empty_house: House, signing_key: OpenPgpKey) -> None:
    empty_house.secret("signers.json", json.dumps({"hr": signing_key.public}))
    put(empty_house, DAILY, OLD)
    put(empty_house, DAILY, NEW)
    empty_house.read()
    with (
        open_catalogue(empty_house.settings) as catalogue,
        pytest.raises(NotTrusted, match="is not signed, and 1 older ones are not trusted either"),
    ):
        catalogue.find(["hr"])


def test_an_old_bucket_is_listed_shown_verified_restored_and_copied(
    backed_up: House, scratch: object
) -> None:
    as_of_old(backed_up)
    assert all(name.startswith("local/hr/") for name in backed_up.names())
    (backup,) = json.loads(backed_up.run("list", "--json").stdout)
    shown = json.loads(backed_up.run("show", backup["id"], "--json").stdout)
    assert shown["dump"]["name"].startswith("local/hr/")
    assert backed_up.run("verify", backup["id"]).returncode == 0
    backed_up.use_key("listFiles", "readFiles", "writeFiles")
    copied = backed_up.run("monthly", "hr")
    assert copied.returncode == 0, copied.stderr
    for version, _ in backed_up.bucket.ls("local/hr/", latest_only=False, recursive=True):
        version.delete()
    target = backed_up.server.create_database()
    ended = backed_up.run("restore", "hr", "--into-env", "TARGET", TARGET=target)
    assert ended.returncode == 0, ended.stderr
    assert contents(target) == contents(backed_up.source)


def test_what_is_put_in_the_dumps_place_is_not_the_one_that_is_signed(backed_up: House) -> None:
    with open_catalogue(backed_up.settings) as catalogue:
        chosen = catalogue.find(["hr"])
    dump = chosen.backup.dump
    for data, fault in (
        (b"junk", "has 4 bytes"),
        (bytes(dump.size), "has the SHA-1 "),
        (backed_up.bucket.download_file_by_id(dump.file_id).response.content, "is the file "),
    ):
        for version, _ in backed_up.bucket.ls(dump.name, latest_only=False):
            version.delete()
        backed_up.bucket.upload_bytes(data, dump.name)
        with (
            open_catalogue(backed_up.settings) as catalogue,
            pytest.raises(NotTrusted, match=fault),
        ):
            catalogue.find(["hr"])


def test_a_large_dump_put_in_place_again_is_told_by_its_id(house: House) -> None:
    """B2 knows no SHA-1 of it, and this one has the right size."""
    add_megabytes(house.source, 12)
    run_backup(house.settings, house.database)
    house.read()
    with open_catalogue(house.settings) as catalogue:
        dump = catalogue.find(["hr"]).backup.dump
    assert dump.sha1 is None
    for version, _ in house.bucket.ls(dump.name, latest_only=False):
        version.delete()
    house.bucket.upload_bytes(bytes(dump.size), dump.name)
    with (
        open_catalogue(house.settings) as catalogue,
        pytest.raises(NotTrusted, match="is the file"),
    ):
        catalogue.find(["hr"])


def test_the_twin_of_a_lost_answer_is_the_same_dump(house: House) -> None:
    lost = {"operation": "upload_file", "kind": "lose_answer", "count": 3}
    house.endpoint.set_faults(lost)
    run_backup(house.settings, house.database)
    house.endpoint.set_faults()
    house.read()
    with open_catalogue(house.settings) as catalogue:
        assert catalogue.find(["hr"]).backup.dump.twins

"""Reports in the bucket: what the drill signed is read, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import pytest

from backup.bucket.catalogue import open_catalogue
from backup.openpgp.signature import signer
from backup.proof.kept import drill_signer, keep_report, kept_reports
from backup.proof.report import DrillReport, DrillResult, last_results
from tests.backup.conftest import House, OpenPgpKey, make_key

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)


def report(age: timedelta, verdict: Literal["equal", "different"] = "equal") -> DrillReport:
    result = DrillResult(database="hr", verdict=verdict)
    return DrillReport(started=NOW - age, finished=NOW - age, databases=(result,))


@pytest.fixture
def drilled(house: House) -> House:
    """The environment after a drill that found something, with a key that reads and writes."""
    house.use_key("listFiles", "readFiles", "writeFiles")
    keep(house, report(2 * HOUR, "different"))
    return house


def keep(house: House, made: DrillReport) -> None:
    with open_catalogue(house.settings) as catalogue, drill_signer(house.settings) as signing:
        keep_report(house.settings, catalogue.store, made, signing, catalogue.opener.signers)


def put(house: House, made: DrillReport, key: OpenPgpKey | None, name: str | None = None) -> str:
    """Put a report as a thief of the results' key would, signed by ``key`` or by nobody."""
    name = name or f"local/drills/{made.finished:%Y%m%dT%H%M%SZ}.json"
    data = made.model_dump_json().encode()
    house.endpoint.advance(seconds=1)
    if key:
        file = house.settings.scratch / "thief"
        file.write_text(key.private)
        with signer(file) as signing:
            house.bucket.upload_bytes(signing.sign(data), f"{name}.asc")
    house.bucket.upload_bytes(data, name)
    return name


def kept(house: House, count: int = 100) -> list[DrillReport]:
    with open_catalogue(house.settings) as catalogue:
        return kept_reports(catalogue.store, "local", count, catalogue.opener.signers)


def verdict(house: House) -> str:
    return last_results(kept(house), datetime.now(UTC))["hr"][1].verdict


def test_a_report_that_the_drill_signed_is_read(drilled: House) -> None:
    assert verdict(drilled) == "different"
    keep(drilled, report(HOUR))
    assert verdict(drilled) == "equal"
    assert [each.started for each in kept(drilled, 1)] == [NOW - HOUR]


def test_one_forged_report_does_not_turn_red_to_green(
    drilled: House, gnupg_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(drilled, report(HOUR), None)
    put(drilled, report(HOUR / 2), make_key(gnupg_home, "thief@example.org", encrypts=False))
    assert verdict(drilled) == "different"
    assert "drill reports passed over" in caplog.text
    assert [each.started for each in kept(drilled, 1)] == [NOW - 2 * HOUR], "behind the forged ones"
    signed = next(name for name in drilled.names() if name.endswith(".json.asc"))
    before = drilled.bucket.download_file_by_name(signed).response.content
    stolen = f"local/drills/{NOW:%Y%m%dT%H%M%SZ}.json"
    drilled.bucket.upload_bytes(before, f"{stolen}.asc")
    drilled.bucket.upload_bytes(report(timedelta()).model_dump_json().encode(), stolen)
    assert verdict(drilled) == "different"


def test_an_old_report_put_where_it_would_be_the_newest_is_not_taken(
    drilled: House, signing_key: OpenPgpKey
) -> None:
    put(drilled, report(3 * HOUR), signing_key, f"local/drills/{NOW:%Y%m%dT%H%M%SZ}.json")
    assert verdict(drilled) == "different"
    put(drilled, report(3 * HOUR), signing_key)
    assert verdict(drilled) == "different", "it is older than the one that found something"


def test_what_somebody_writes_over_a_report_is_not_read(drilled: House) -> None:
    put(drilled, report(2 * HOUR), None)
    assert verdict(drilled) == "different"


def test_a_report_of_the_drills_key_that_is_none_is_passed_over(
    drilled: House, signing_key: OpenPgpKey
) -> None:
    (drilled.settings.scratch / "key").write_text(signing_key.private)
    with signer(drilled.settings.scratch / "key") as signing:
        drilled.bucket.upload_bytes(signing.sign(b"{}"), "local/drills/20261101T000000Z.json.asc")
    drilled.bucket.upload_bytes(b"{}", "local/drills/20261101T000000Z.json")
    assert verdict(drilled) == "different"


def test_without_a_key_that_signs_there_is_no_report(
    backed_up: House, caplog: pytest.LogCaptureFixture
) -> None:
    backed_up.use_key("listFiles", "readFiles", "writeFiles")
    (backed_up.settings.secrets_dir / "signing_key.asc").unlink()
    keep(backed_up, report(HOUR))
    assert not [name for name in backed_up.names() if "drills" in name]
    assert "no signing_key.asc to sign it" in caplog.text


def test_coverage_takes_signed_reports_only(drilled: House) -> None:
    drilled.secret("servers.json", json.dumps({"postgres": drilled.server.uri("postgres")}))
    put(drilled, report(HOUR), None)
    ended = drilled.run("coverage", "--json")
    (row,) = [row for row in json.loads(ended.stdout) if row["name"] == "hr"]
    assert "drill failed" in row["states"]

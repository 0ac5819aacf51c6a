"""Which monthly copy is read in which month, and what a drill says of one that is damaged."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backup.dump import run_backup
from backup.proof.copies import in_turn
from tests.backup.examples import backup

if TYPE_CHECKING:
    from tests.backup.conftest import House, OpenPgpKey


def test_each_database_and_each_copy_has_its_turn() -> None:
    hr = [backup("hr", timedelta(days=days)) for days in (60, 30, 1)]
    records = [backup("records", timedelta(days=days)) for days in (60, 30)]
    months = [datetime(2026 + n // 12, 1 + n % 12, 1, tzinfo=UTC) for n in range(12)]
    read = [in_turn([hr, [], records], month) for month in months]
    assert {id(each) for each in read} == {id(each) for each in (*hr, *records)}
    assert [each and each.database for each in read[:4]] in (
        ["hr", "records"] * 2,
        ["records", "hr"] * 2,
    )
    again = [in_turn([hr, [], records], month + timedelta(days=20)) for month in months]
    assert again == read, "whenever in the month it is asked"
    assert in_turn([[], []], months[0]) is None


def test_a_drill_of_everything_reads_one_copy_and_says_which(
    house: House, drill_key: OpenPgpKey
) -> None:
    manifest = run_backup(house.settings, house.database)
    house.use_key("listFiles", "readFiles", "writeFiles")
    assert house.run("monthly", "hr").returncode == 0
    house.secret("drill_key.asc", drill_key.private)
    told = json.loads(house.run("drill", "--json", unprivileged=True).stdout)["copy_check"]
    name = f"local/monthly/hr/{manifest.id}.dump.zst.gpg"
    assert (told["database"], told["object_name"], told["whole"]) == ("hr", name, True)
    (copy,) = [each for each, _ in house.bucket.ls(name) if each.file_name == name]
    house.endpoint.set_faults({"kind": "flip_bit", "file_id": copy.id_, "offset": 900})
    ended = house.run("drill", "--json", unprivileged=True)
    told = json.loads(ended.stdout)["copy_check"]
    assert (ended.returncode, told["whole"]) == (1, False)
    assert "damaged" in told["finding"]
    assert (
        json.loads(house.run("drill", "hr", "--json", unprivileged=True).stdout)["copy_check"]
        is None
    )

"""Damage at every layer of a backup, found by all that read it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.backup.conftest import contents

if TYPE_CHECKING:
    from tests.backup.conftest import House

LAYERS = {
    "dump": ".dump.zst.gpg",
    "manifest": ".manifest.json.gpg",
    "signature": ".manifest.json.gpg.asc",
}


# A dump is read piece by piece; the other two are read whole, so one place in them says it all.
@pytest.mark.parametrize(
    ("layer", "place", "kind"),
    [
        ("dump", 0.02, "flip_bit"),
        ("dump", 0.98, "flip_bit"),
        ("dump", 0.5, "truncate"),
        ("manifest", 0.5, "flip_bit"),
        ("signature", 0.5, "truncate"),
    ],
)
def test_damage_is_found_by_verify_restore_and_drill(
    backed_up: House, layer: str, place: float, kind: str
) -> None:
    (found,) = [
        version
        for version, _ in backed_up.bucket.ls(recursive=True)
        if version.file_name.endswith(LAYERS[layer])
    ]
    where = int(found.size * place)
    amount = {"offset": where} if kind == "flip_bit" else {"length": where}
    backed_up.endpoint.set_faults({"kind": kind, "file_id": found.id_, **amount})
    ended = backed_up.run("verify", found.file_name.rpartition("/")[2].partition(".")[0])
    assert ended.returncode == 1, ended.stdout
    assert "Traceback" not in ended.stderr
    target = backed_up.server.create_database()
    ended = backed_up.run("restore", "hr", "--into-env", "TARGET", TARGET=target)
    assert ended.returncode == 1, ended.stdout
    assert contents(target) == {}
    ended = backed_up.run("drill", "hr", "--json", unprivileged=True)
    (result,) = json.loads(ended.stdout)["databases"]
    assert (ended.returncode, result["verdict"]) == (1, "failed")


def test_a_dump_that_is_gone_is_no_backup(backed_up: House) -> None:
    for version, _ in backed_up.bucket.ls(recursive=True):
        if version.file_name.endswith(LAYERS["dump"]):
            version.delete()
    assert json.loads(backed_up.run("list", "--json").stdout) == []
    assert backed_up.run("drill", "hr", unprivileged=True).returncode == 1

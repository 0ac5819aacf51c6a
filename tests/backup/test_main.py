from __future__ import annotations

import json
import secrets
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from backup.__main__ import app
from backup.dump import run_backup
from backup.scratch import directory as scratch
from tests.backup.conftest import ROOT, make_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from tests.backup.conftest import House, OpenPgpKey

VERBS = (
    "run", "list", "show", "verify", "restore", "drill", "coverage", "monthly", "lifecycle", "keys",
)  # fmt: skip


def test_help_names_verbs_settings_secrets_and_exit_codes() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    for word in (*VERBS, "BACKUP_BUCKET", "drill_key.asc", "2  wrong use"):
        assert word in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    assert CliRunner().invoke(app, [verb, "--help"]).exit_code == 0


@pytest.fixture
def run(empty_house: House) -> Callable[..., Result]:
    """Run the command line in this process, with the house's settings and nothing else."""

    def invoke(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(app, arguments, env=empty_house.environment() | environment)

    return invoke


def test_wrong_use_ends_with_2(run: Callable[..., Result]) -> None:
    for line in (
        "run",
        "run payroll",
        "run hr --timeout soon",
        "fly",
        "restore hr",
        "restore hr --into-env NOT_SET",
        "restore hr --into-file /nowhere",
        f"restore hr --into-file {sys.executable}",  # no text
        "keys check",
        "restore hr --into-env A --into-file /b",
    ):
        ended = run(*line.split(), A="postgresql://h/d")
        assert ended.exit_code == 2, (line, ended.output)


def test_an_error_is_text_with_a_hint_and_json_where_that_is_asked_for(empty_house: House) -> None:
    ended = empty_house.run("run", "hr", BACKUP_BUCKET="")
    assert ended.returncode == 2
    message, hint = ended.stderr.splitlines()
    assert message == "error: settings are incomplete: BACKUP_BUCKET is not set"
    assert hint.startswith("HINT: ")
    ended = empty_house.run("run", "hr", "--json", BACKUP_BUCKET="")
    assert json.loads(ended.stderr) == {
        "error": "settings are incomplete: BACKUP_BUCKET is not set",
        "hint": hint.removeprefix("HINT: "),
        "exit_code": 2,
    }


def test_a_uri_that_cannot_be_read_is_not_shown(
    house: House, run: Callable[..., Result], drill_key: OpenPgpKey
) -> None:
    house.secret("drill_key.asc", drill_key.private)
    run_backup(house.settings, house.database)
    house.read()
    ended = run("restore", "hr", "--into-env", "TARGET", TARGET="postgres//u:hush@h/d")
    assert ended.exit_code == 2
    assert "hush" not in ended.output


def test_a_run_a_list_a_manifest_and_a_check(
    house: House, run: Callable[..., Result], drill_key: OpenPgpKey
) -> None:
    assert json.loads(run("list", "--json").stdout) == []
    first = json.loads(run("run", "hr", "--json").stdout)
    ended = run("run", "hr", "--json")
    assert ended.exit_code == 0, ended.output
    manifest = json.loads(ended.stdout)
    events = [json.loads(line)["event"] for line in ended.stderr.splitlines()]
    assert events == ["backup started", "backup done"]
    listed = json.loads(run("list", "hr", "--json").stdout)
    ids = [first["id"], manifest["id"]]
    assert [backup["id"] for backup in listed] == ids
    (newest,) = json.loads(run("list", "--newest", "--json").stdout)
    assert newest["id"] == ids[-1]
    assert run("list").exit_code == 0
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    assert json.loads(run("show", manifest["id"], "--json").stdout) == manifest
    shown = run("show", manifest["id"]).stdout
    assert all(text in shown for text in ("public.people", manifest["recipients"][0])), shown
    whole = {"database": "hr", "id": manifest["id"], "whole": True}
    assert json.loads(run("verify", manifest["id"], "--json").stdout) == whole
    assert "is whole" in run("verify", manifest["id"]).stdout
    assert run("show", "20260101T000000Z-00000000").exit_code == 1


def test_a_command_has_one_session_with_b2(
    backed_up: House, run: Callable[..., Result], tmp_path: Path
) -> None:
    (backup,) = json.loads(run("list", "--json").stdout)
    second = {"operation": "authorize_account", "kind": "status", "status": 403, "after": 1}
    for line in (
        ["list"],
        ["show", backup["id"]],
        ["verify", backup["id"]],
        ["restore", "hr", "--to", str(tmp_path / "dump")],
        ["coverage"],
    ):
        backed_up.endpoint.set_faults(second)
        run(*line)
        unmet = [fault["operation"] for fault in backed_up.endpoint.faults_left()]
        assert unmet == ["authorize_account"], line
    backed_up.endpoint.set_faults()


def test_a_file_is_written_where_its_user_may_and_what_a_kill_left_there_goes(
    backed_up: House, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = backed_up.run("restore", "hr", "--to", "/root/below/dump", unprivileged=True)
    assert (refused.returncode, "no directory can be made in" in refused.stderr) == (2, True)
    monkeypatch.setattr(scratch, "LEFT_SECONDS", -1)
    (tmp_path / ".harmattan-restore-12345678").mkdir()
    assert run("restore", "hr", "--to", str(tmp_path / "dump")).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]


def test_a_private_key_that_is_missing_is_asked_for(backed_up: House) -> None:
    (backed_up.settings.secrets_dir / "drill_key.asc").unlink()
    (name,) = [name for name in backed_up.names() if name.endswith(".json.gpg")]
    backup_id = name.removeprefix("local/daily/hr/").removesuffix(".manifest.json.gpg")
    for line in (["verify", backup_id], ["restore", "hr", "--to", "/never"]):
        ended = backed_up.run(*line)
        assert ended.returncode == 2, ended.stderr
        assert "drill_key.asc cannot be imported" in ended.stderr


def test_the_image_holds_the_package_and_no_tests() -> None:
    dockerfile = (ROOT / "backup" / "Dockerfile").read_text()
    assert "COPY backup /opt/harmattan/backup" in dockerfile
    assert "--require-hashes" in dockerfile
    assert "USER 50001" in dockerfile
    assert "--mount" not in dockerfile.replace("no RUN --mount", "")


def test_keys_are_checked_long_before_they_expire(
    house: House, gnupg_home: Path, recovery_key: OpenPgpKey
) -> None:
    well = house.run("keys", "check", "--json")
    assert (well.returncode, [key["state"] for key in json.loads(well.stdout)]) == (0, ["well"] * 4)
    soon = make_key(gnupg_home, f"soon-{secrets.token_hex(4)}@example.org", "30d")
    house.secret("recipients.asc", soon.public + recovery_key.public)
    told = house.run("keys", "check")
    assert (told.returncode, "expires soon" in told.stdout) == (1, True)
    assert house.run("keys", "check", "--days", "20").returncode == 0

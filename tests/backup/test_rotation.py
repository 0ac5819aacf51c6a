"""The lines of the runbook that rotate the GPG keys, with backups and drills between them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from typer.testing import CliRunner

from backup.__main__ import app
from scripts.repository import ROOT
from scripts.tools import VAULT, ensure
from tests.backup.conftest import contents, make_key
from tests.pages import desk, section
from tests.vault_policies.server import vault_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House, OpenPgpKey
    from tests.pages import Desk
    from tests.vault_policies.server import VaultServer

__all__ = ["vault_server"]

BLOCKS = section("GPG keys")
ENVIRONMENT = "rotation"
# Secrets of OpenPGP in a job file: the file, its path in Vault, and how it is rendered.
RENDERED = re.compile(
    r'destination += "\$\{NOMAD_SECRETS_DIR\}/(\w+\.(?:asc|json))"\s+'
    r'data += "\{\{ with secret \\"\$\{local\.secrets\}/backup/([^"\\]+)\\" \}\}'
    r"\{\{ \.Data\.data(\.armor| \| toJSON) \}\}"
)
OTHERS = ("alerts", "b2/")  # which have no key in them


@dataclass
class Rotation:
    """A shell in which somebody types the page's lines, and the jobs beside it.

    ``made`` are the backups, oldest first.
    """

    house: House
    vault: VaultServer
    desk: Desk
    made: list[str] = field(default_factory=list)

    def render(self, job: str) -> None:
        """Put the secrets there that the job's file asks for, and no others of keys."""
        for old in self.house.settings.secrets_dir.glob("*.asc"):
            old.unlink()
        text = (ROOT / "nomad" / "jobs" / f"{job}.nomad.hcl").read_text()
        text = text.replace("${var.database}", "hr")
        wanted = [each for each in RENDERED.findall(text) if not each[1].startswith(OTHERS)]
        assert len(wanted) >= 3, wanted
        for name, path, how in wanted:
            fields = self.secret(path)
            self.house.secret(name, fields["armor"] if how == ".armor" else json.dumps(fields))

    def secret(self, path: str) -> dict[str, str]:
        """Return what Vault holds below backup/."""
        answer = self.vault.client().secrets.kv.v2.read_secret_version(
            f"{ENVIRONMENT}/backup/{path}", raise_on_deleted_version=True
        )
        return dict(answer["data"]["data"])

    def take_out(self, path: str, name: str, old: dict[str, str]) -> None:
        """Take the keys that were there out of a field, which has newer ones as well."""
        now = self.secret(path)
        left = now[name].replace(old[name].strip(), "")
        assert now[name].count("BEGIN PGP") == 2
        assert left.count("BEGIN PGP") == 1
        self.vault.client().secrets.kv.v2.create_or_update_secret(
            f"{ENVIRONMENT}/backup/{path}", now | {name: left}
        )

    def run(self, *words: str, **environment: str) -> str:
        ended = CliRunner().invoke(app, words, env=self.house.environment() | environment)
        assert ended.exit_code == 0, ended.output
        return ended.stdout

    def refused(self, *words: str, **environment: str) -> str:
        """Return the error of a command that fails for good."""
        ended = CliRunner().invoke(app, words, env=self.house.environment() | environment)
        assert ended.exit_code == 1, ended.output
        return ended.stderr

    def back_up(self) -> None:
        """Run the database's job, and look at what it made as coverage does."""
        self.render("backup")
        self.run("run", "hr")
        self.render("backup-coverage")
        newest = json.loads(self.run("list", "hr", "--json"))[-1]
        assert newest["state"] == "well"
        self.made.append(newest["id"])

    def verify(self) -> None:
        """Open the newest backup with what the drill has, which is most of a drill."""
        self.render("restore-drill")
        self.run("verify", self.made[-1])

    def drill(self) -> None:
        """Drill the newest backup."""
        self.render("restore-drill")
        ended = self.house.run("drill", "hr", "--json", unprivileged=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (drilled,) = json.loads(ended.stdout)["databases"]
        assert (drilled["verdict"], drilled["backup_id"]) == ("equal", self.made[-1])
        assert not drilled["passed_over"]


@pytest.fixture
def rotation(
    house: House,
    vault_server: VaultServer,
    recovery_key: OpenPgpKey,
    scratch: Path,
    tmp_path: Path,
) -> Iterator[Rotation]:
    usb = scratch / "usb"
    usb.mkdir()
    (usb / "recovery-public.asc").write_text(recovery_key.public)
    registry = house.settings.registry
    registry.write_text(f'recovery_key = "{recovery_key.fingerprint}"\n{registry.read_text()}')
    house.use_key("listFiles", "readFiles", "writeFiles")
    environment = {
        "PATH": f"{Path(ensure(VAULT)).parent}:{os.environ['PATH']}", "HOME": str(scratch),
        "TMPDIR": str(scratch), "VAULT_ADDR": vault_server.address,
        "VAULT_TOKEN": vault_server.token,
    }  # fmt: skip
    try:
        with desk(scratch, tmp_path, environment) as typing:
            yield Rotation(house, vault_server, typing)
    finally:
        for home in scratch.glob("tmp.*"):
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


def lines(scratch: Path) -> list[str]:
    """Return the lines of the page as somebody would type them for the database hr."""
    *making, done = BLOCKS
    removed, forced = done.splitlines()
    assert forced.startswith("nomad job periodic force backup-hr")  # which night() does
    signing = making[-1]
    assert signing.startswith("NAME=hr ")
    making.append(signing.replace("NAME=hr ", "NAME=restore-drill "))
    text = "\n".join([*making, removed]).replace("/media/usb", str(scratch / "usb"))
    return text.replace(" production/", f" {ENVIRONMENT}/").replace(
        '"production/', f'"{ENVIRONMENT}/'
    ).splitlines()  # fmt: skip


def set_up(rotation: Rotation, scratch: Path) -> None:
    """Type the page for the first time."""
    typed = lines(scratch)
    first = next(line for line in typed if "the first: put" in line)
    for line in typed:
        done = line.replace("kv patch", "kv put") if line is first else line
        rotation.desk.type(done, may_fail="the first time there is none" in line)


def add_row(house: House) -> None:
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("INSERT INTO empty VALUES (1)")


@pytest.mark.programs
def test_all_keys_are_rotated_line_by_line_and_nothing_fails_in_between(
    rotation: Rotation, recovery_key: OpenPgpKey, scratch: Path
) -> None:
    house, made = rotation.house, rotation.made
    set_up(rotation, scratch)
    old = {path: rotation.secret(path) for path in ("manifest-key", "drill-key", "signers")}
    rotation.back_up()
    rotation.drill()
    typed = ""
    for line in lines(scratch):
        rotation.desk.type(line)
        typed += line.partition("#")[0]
        if "vault kv p" in line:
            add_row(house)
            rotation.back_up()
            if "NAME=restore-drill" in typed:  # which signs its reports
                rotation.drill()
            elif "/manifest-" not in line:  # which the drill's key opens as well
                rotation.verify()
    assert len(made) == 9, "a night before, and one for each secret that is written"
    assert not list(scratch.glob("tmp.*")), "private keys are left on the disk"
    recovery = scratch / "recovery-private.asc"
    recovery.write_text(recovery_key.private)
    for number, by in ((0, []), (4, ["--key-file", str(recovery)]), (8, [])):
        rotation.run("verify", made[number])
        target = house.server.create_database()
        rotation.run("restore", "hr", "--id", made[number], "--into-env", "T", *by, T=target)
        assert len(contents(target)["public.empty"]) == number
    # An old key opens, and vouches, until it is taken out, and is then told by the object's name.
    for path in ("manifest-key", "drill-key"):
        rotation.take_out(path, "armor", old[path])
    rotation.back_up()
    for job in ("backup-coverage", "restore-drill"):
        rotation.render(job)
        first, *_, last = json.loads(rotation.run("list", "hr", "--json"))
        assert (last["id"], last["state"]) == (made[-1], "well")
        refused = rotation.refused("show", first["id"])
        assert f"{first['id']}.manifest.json.gpg" in refused
        assert "cannot be opened with the key in" in refused
    rotation.take_out("signers", "hr", old["signers"])
    rotation.render("restore-drill")
    for verb in (["verify"], ["restore", "hr", "--into-env", "T", "--id"]):
        refused = rotation.refused(*verb, made[0], T=house.server.create_database())
        assert f"{made[0]}.manifest.json.gpg is not signed by the key of hr" in refused
    rotation.back_up()
    rotation.drill()


@pytest.mark.programs
def test_the_recovery_key_is_rotated_and_nothing_fails_in_between(
    rotation: Rotation, recovery_key: OpenPgpKey, gnupg_home: Path, scratch: Path
) -> None:
    house, made = rotation.house, rotation.made
    registry = house.settings.registry
    set_up(rotation, scratch)
    rotation.back_up()
    new = make_key(gnupg_home, "recovery-2028@example.org")

    def recipients(public: str) -> None:
        """Type the first block again with these recovery keys."""
        (scratch / "usb/recovery-public.asc").write_text(public)
        first = BLOCKS[0].count("\n")
        for line in [*lines(scratch)[:first], lines(scratch)[-1]]:
            rotation.desk.type(line)
        rotation.back_up()

    recipients(new.public + recovery_key.public)
    registry.write_text(registry.read_text().replace(recovery_key.fingerprint, new.fingerprint))
    rotation.back_up()
    recipients(new.public)
    for key, opened in ((recovery_key, made[:3]), (new, made[1:])):
        file = scratch / "private.asc"
        file.write_text(key.private)
        for backup in opened:
            rotation.run("verify", backup, "--key-file", str(file))

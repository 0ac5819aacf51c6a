"""Who made a backup, held against real keys: the right one, others, expired and revoked ones."""

from __future__ import annotations

import json
import secrets
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backup.bucket.catalogue import open_catalogue
from backup.dump import run_backup
from backup.openpgp.signature import NotTrusted, Signed, Signers, signer
from frame.failure import Failure, WrongUse
from tests.backup.conftest import House, OpenPgpKey, make_key

if TYPE_CHECKING:
    from pathlib import Path

DATA = b'{"version": 1}'


def signers(scratch: Path, **keys: str) -> Signers:
    file = scratch / "signers.json"
    file.write_text(json.dumps(keys))
    return Signers(file)


def check(
    known: Signers,
    entry: str,
    data: bytes,
    signature: bytes | None,
    uploaded: datetime | None = None,
) -> None:
    with known:
        known.check(Signed("x.json", entry, data, signature, uploaded))


def sign(scratch: Path, key: OpenPgpKey, data: bytes = DATA) -> bytes:
    file = scratch / "signing_key.asc"
    file.write_text(key.private)
    with signer(file) as made:
        assert made.fingerprint == key.fingerprint
        return made.sign(data)


def another(home: Path, expiry: str = "never") -> OpenPgpKey:
    return make_key(home, f"{secrets.token_hex(8)}@example.org", expiry, encrypts=False)


def test_a_signature_counts_for_what_it_was_made_for_and_nothing_else(
    scratch: Path, signing_key: OpenPgpKey, gnupg_home: Path
) -> None:
    signature = sign(scratch, signing_key)
    known = signers(scratch, hr=signing_key.public, records=another(gnupg_home).public)
    check(known, "hr", DATA, signature)
    for entry, data, detached in (
        ("records", DATA, signature),  # the key of another job
        ("hr", DATA + b" ", signature),
        ("hr", DATA, signature[:-40]),
        ("hr", DATA, b""),
    ):
        with pytest.raises(Failure, match=f"x.json is not signed by the key of {entry}"):
            check(known, entry, data, detached)
    with pytest.raises(Failure, match=r"x\.json is not signed\n"):
        check(known, "hr", DATA, None)


def test_a_key_that_expired_since_still_tells_and_a_revoked_one_does_not(
    scratch: Path, gnupg_home: Path
) -> None:
    brief = another(gnupg_home, "seconds=3")
    signature = sign(scratch, brief)
    subprocess.run(["sleep", "6"], check=True)
    check(signers(scratch, hr=brief.public), "hr", DATA, signature)
    with pytest.raises(WrongUse, match="is expired, revoked or cannot sign"):
        sign(scratch, brief)
    lost = another(gnupg_home)
    signature = sign(scratch, lost)
    revocation = gnupg_home / "openpgp-revocs.d" / f"{lost.fingerprint}.rev"
    gpg = ["gpg", "--homedir", gnupg_home, "--batch", "--quiet"]
    armoured = revocation.read_text().replace(":-----BEGIN", "-----BEGIN")
    subprocess.run([*gpg, "--import"], input=armoured, text=True, check=True)
    revoked = subprocess.run(
        [*gpg, "--armor", "--export", lost.fingerprint], check=True, capture_output=True, text=True
    ).stdout
    with pytest.raises(Failure, match="not signed by the key of hr"):
        check(signers(scratch, hr=revoked), "hr", DATA, signature)


def at(moment: datetime) -> list[str]:
    """Return the option by which gpg takes ``moment`` for now."""
    return [f"--faked-system-time={moment:%Y%m%dT%H%M%S}"]


@pytest.fixture(scope="module", params=["primary", "subkey"])
def ended(request: pytest.FixtureRequest, gnupg_home: Path) -> tuple[str, list[str | Path]]:
    """A public key that signed until END, and gpg with its private half, which knows no end.

    Whoever has that can lengthen it; the public half that we hold stays as it was.
    """
    gpg = ["gpg", "--homedir", gnupg_home, "--batch", "--quiet", "--passphrase", "",
           "--pinentry-mode", "loopback"]  # fmt: skip
    name = f"{secrets.token_hex(8)}@example.org"
    seconds = f"seconds={int((END - BEGUN).total_seconds())}"
    whole = request.param == "primary"

    def call(*words: str) -> str:
        command = [*gpg, *at(BEGUN), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    call("--quick-generate-key", name, "ed25519", "sign" if whole else "cert",
         seconds if whole else "never")  # fmt: skip
    listing = call("--list-keys", "--with-colons", name).splitlines()
    fingerprint = next(line.split(":")[9] for line in listing if line.startswith("fpr"))
    if not whole:
        call("--quick-add-key", fingerprint, "ed25519", "sign", seconds)
    public = call("--armor", "--export", fingerprint)
    call("--quick-set-expire", fingerprint, "never", *([] if whole else ["*"]))
    return public, [*gpg, f"--local-user={fingerprint}"]


BEGUN = datetime(2025, 1, 1, tzinfo=UTC)
END = datetime(2025, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("dated", "uploaded", "counts"),
    [
        (END - DAY, None, True),
        (END - DAY, END - DAY, True),
        (END + DAY, None, False),
        (END + DAY, END + DAY, False),
        (END - DAY, END + DAY, False),  # dated back by a thief: B2 had it later
        (END + DAY, END - DAY, False),
    ],
)
def test_a_key_must_have_been_good_when_it_signed(
    scratch: Path,
    ended: tuple[str, list[str | Path]],
    dated: datetime,
    uploaded: datetime | None,
    *,
    counts: bool,
) -> None:
    public, gpg = ended
    sign_it = [*gpg, *at(dated), "--armor", "--detach-sign"]
    signature = subprocess.run(sign_it, input=DATA, check=True, capture_output=True).stdout
    known = signers(scratch, hr=public)
    if counts:
        check(known, "hr", DATA, signature, uploaded)
        return
    with pytest.raises(NotTrusted, match="by a key of hr that ended at 2025-06-01"):
        check(known, "hr", DATA, signature, uploaded)


def test_what_is_wrong_with_the_signers_is_told(scratch: Path, signing_key: OpenPgpKey) -> None:
    signature = sign(scratch, signing_key)
    known = signers(scratch, records=signing_key.public)
    with pytest.raises(WrongUse, match="has no key of hr"):
        check(known, "hr", DATA, signature)
    known.armoured.write_text("[]")
    with pytest.raises(WrongUse, match="is not JSON of the form"):
        check(known, "hr", DATA, signature)
    known.armoured.unlink()
    with pytest.raises(WrongUse, match="cannot be read: No such file"):
        check(known, "hr", DATA, signature)


def test_nothing_is_dumped_by_a_job_that_cannot_sign(
    house: House, gnupg_home: Path, drill_key: OpenPgpKey
) -> None:
    encrypting_only = drill_key.public
    house.secret("signing_key.asc", encrypting_only)
    with pytest.raises(WrongUse, match="holds no private key"):
        run_backup(house.settings, house.database)
    brief = another(gnupg_home, "seconds=2")
    subprocess.run(["sleep", "5"], check=True)
    house.secret("signing_key.asc", brief.private)
    with pytest.raises(WrongUse, match="cannot sign"):
        run_backup(house.settings, house.database)
    assert house.names() == []


def test_a_backup_of_somebody_else_is_neither_restored_nor_drilled(
    backed_up: House, gnupg_home: Path
) -> None:
    with open_catalogue(backed_up.settings) as catalogue:
        (good,) = catalogue.backups("hr")
    backed_up.secret("signing_key.asc", another(gnupg_home).private)
    backed_up.write()
    forged = run_backup(backed_up.settings, backed_up.database)
    backed_up.read()
    target = backed_up.server.create_database()
    by_id = ["restore", "hr", "--id", forged.id, "--into-env", "TARGET"]
    for verb in (by_id, ["verify", forged.id]):
        ended = backed_up.run(*verb, TARGET=target)
        assert ended.returncode == 1
        assert "is not signed by the key of hr" in ended.stderr
    drilled = backed_up.run("drill", "hr", "--json", unprivileged=True)
    (result,) = json.loads(drilled.stdout)["databases"]
    assert (drilled.returncode, result["verdict"], result["backup_id"]) == (0, "equal", good.id)
    assert "is not signed by the key of hr" in result["passed_over"][0]
    arguments = (*by_id, "--unsigned")
    ended = backed_up.run(*arguments, TARGET=target)
    assert ended.returncode == 1, "it was checked, and is wrong"
    (backed_up.settings.secrets_dir / "signers.json").unlink()
    ended = backed_up.run(*arguments, TARGET=target)
    assert ended.returncode == 0, ended.stderr
    assert "signature not checked" in ended.stderr

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from backup.openpgp.crypt import private_key
from backup.openpgp.opening import why_ring_is_closed
from tests.backup.conftest import make_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backup.conftest import OpenPgpKey


def why(armoured: Path, *recipients: str) -> str:
    with private_key(armoured) as ring:
        found = why_ring_is_closed(ring, recipients)
    return ": ".join(found) if found else ""


@pytest.fixture
def armoured(tmp_path: Path, drill_key: OpenPgpKey) -> Path:
    path = tmp_path / "key.asc"
    path.write_text(drill_key.private)
    return path


def test_a_key_that_is_among_the_recipients_opens(armoured: Path, drill_key: OpenPgpKey) -> None:
    assert why(armoured, "0" * 40, drill_key.fingerprint) == ""


def test_a_key_that_is_none_of_them_is_told(armoured: Path, drill_key: OpenPgpKey) -> None:
    said = why(armoured, "0" * 40)
    assert f"at hand is {drill_key.fingerprint}, and the dump is encrypted to {'0' * 40}" in said


def test_a_subkey_that_a_dump_names_opens_it(armoured: Path, gnupg_home: Path) -> None:
    key = make_key(gnupg_home, "by-subkey@example.org")
    armoured.write_text(key.private)
    listing = subprocess.run(
        ["gpg", "--homedir", gnupg_home, "--with-colons", "--list-keys", key.fingerprint],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    subkey = [line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr")][-1]
    assert subkey != key.fingerprint
    assert why(armoured, subkey) == ""


def exported(home: Path, fingerprint: str, what: str, passphrase: str) -> str:
    return subprocess.run(
        ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", passphrase,
         "--pinentry-mode", "loopback", "--armor", what, fingerprint],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def test_a_key_with_a_passphrase_is_told_as_such(armoured: Path, gnupg_home: Path) -> None:
    key = make_key(gnupg_home, "protected@example.org", passphrase="hush")  # noqa: S106
    armoured.write_text(exported(gnupg_home, key.fingerprint, "--export-secret-keys", "hush"))
    said = why(armoured, key.fingerprint)
    assert f"private key {key.fingerprint} needs a passphrase" in said
    assert "without its passphrase" in said


def test_a_key_without_the_part_that_decrypts_is_told(armoured: Path, gnupg_home: Path) -> None:
    key = make_key(gnupg_home, "signs@example.org", encrypts=False)
    armoured.write_text(key.private)
    assert "without its secret part that decrypts" in why(armoured, key.fingerprint)

from __future__ import annotations

import json
import random
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from backup.openpgp import crypt, signature
from backup.openpgp.crypt import decrypt, private_key, public_keys, recipients
from backup.openpgp.key import EVER
from backup.pipeline import Pipeline, Stage
from frame.failure import Failure, WrongUse
from tests.backup.conftest import OpenPgpKey, make_key

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}
TEXT = b"".join(b"%d\n" % number for number in range(100_000))


def encrypt(keys: Path, scratch: Path, data: bytes) -> Path:
    encrypted = scratch / "dump.zst.gpg"
    with recipients(keys) as ring, encrypted.open("wb") as sink:
        zstd = Stage(["zstd", "-q", "-c"], ENVIRONMENT)
        with Pipeline([zstd, ring.encrypt_stage()], fed=True, sink=sink, hint="") as pipeline:
            pipeline.feed([data])
            pipeline.finish()
    return encrypted


@pytest.fixture
def keys(tmp_path: Path, drill_key: OpenPgpKey, recovery_key: OpenPgpKey) -> Path:
    """A directory with the public keys of both and the private key of each."""
    (tmp_path / "public").write_text(drill_key.public + recovery_key.public)
    (tmp_path / "drill").write_text(drill_key.private)
    (tmp_path / "recovery").write_text(recovery_key.private)
    return tmp_path


@pytest.mark.parametrize("whose", ["drill", "recovery"])
def test_each_recipient_can_decrypt(keys: Path, scratch: Path, whose: str) -> None:
    encrypted = encrypt(keys / "public", scratch, TEXT)
    with private_key(keys / whose) as ring:
        decrypt(ring, [encrypted.read_bytes()], scratch / "out", ())
    assert (scratch / "out").read_bytes() == TEXT


def test_nobody_else_can(keys: Path, scratch: Path, gnupg_home: Path) -> None:
    encrypted = encrypt(keys / "public", scratch, TEXT)
    (keys / "stranger").write_text(make_key(gnupg_home, "stranger@example.org").private)
    with (
        private_key(keys / "stranger") as ring,
        pytest.raises(Failure, match="gpg ended with 2") as caught,
    ):
        decrypt(ring, [encrypted.read_bytes()], scratch / "out", ("FINGERPRINT",))
    assert "FINGERPRINT" in caught.value.hint


@pytest.mark.parametrize("where", [40, 0.5, -5])
def test_tampering_is_found(keys: Path, scratch: Path, where: float) -> None:
    encrypted = encrypt(keys / "public", scratch, TEXT)
    data = bytearray(encrypted.read_bytes())
    data[int(where * len(data)) if isinstance(where, float) else where] ^= 1
    encrypted.write_bytes(data)
    with private_key(keys / "drill") as ring, pytest.raises(Failure):
        decrypt(ring, [encrypted.read_bytes()], None, ())


@pytest.mark.parametrize("missing", [1, 1000])
def test_a_cut_file_is_found(keys: Path, scratch: Path, missing: int) -> None:
    encrypted = encrypt(keys / "public", scratch, TEXT)
    encrypted.write_bytes(encrypted.read_bytes()[:-missing])
    with private_key(keys / "drill") as ring, pytest.raises(Failure):
        decrypt(ring, [encrypted.read_bytes()], None, ())


def test_a_file_that_was_never_encrypted_is_refused(keys: Path, scratch: Path) -> None:
    packed = subprocess.run(["zstd", "-c"], input=TEXT, capture_output=True, check=True).stdout
    literal = subprocess.run(
        ["gpg", "--homedir", str(scratch), "--store", "--compress-algo", "none"],
        input=packed, capture_output=True, check=True,
    ).stdout  # fmt: skip
    with private_key(keys / "drill") as ring, pytest.raises(Failure):
        decrypt(ring, [literal], None, ())


def test_an_expired_key_is_refused_before_anything_is_dumped(
    tmp_path: Path, scratch: Path, gnupg_home: Path, drill_key: OpenPgpKey
) -> None:
    key = make_key(gnupg_home, "short@example.org", "seconds=1")
    (tmp_path / "public").write_text(drill_key.public + key.public)
    subprocess.run(["sleep", "2.1"], check=True)
    with (
        pytest.raises(WrongUse, match=f"{key.fingerprint} .* is expired"),
        recipients(tmp_path / "public"),
    ):
        pass


@pytest.mark.programs
@pytest.mark.parametrize("text", ["", "-----BEGIN", "no key at all"])
def test_what_is_no_key_is_refused(tmp_path: Path, scratch: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text)
    for use in (recipients, private_key):
        with (
            pytest.raises(WrongUse, match=str(tmp_path / "keys")),
            use(tmp_path / "keys"),
        ):
            pass


def test_a_key_that_gpg_would_leave_out_in_silence_is_told(
    keys: Path, drill_key: OpenPgpKey, gnupg_home: Path
) -> None:
    """So recovery could open nothing. Here its algorithm is one that nobody knows."""
    made = subprocess.run(
        ["gpg", "--homedir", gnupg_home, "--export", drill_key.fingerprint],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    algorithm = 2 + 1 + 4  # behind the packet's head, its version and time
    unknown = made[:algorithm] + b"\x63" + made[algorithm + 1 :]
    armoured = subprocess.run(
        ["gpg", "--homedir", gnupg_home, "--enarmor"],
        check=True,
        capture_output=True,
        input=unknown,
    ).stdout.replace(b"ARMORED FILE", b"PUBLIC KEY BLOCK")
    with (keys / "public").open("ab") as public:
        public.write(armoured)
    with pytest.raises(WrongUse, match=r"gpg leaves 1 of the keys in .*public out"):
        recipients(keys / "public").__enter__()


@pytest.mark.programs
def test_a_large_manifest_needs_no_room_where_keys_are(
    keys: Path, scratch: Path, signing_key: OpenPgpKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is 16 MiB in a job, and the manifest of 70,000 objects is as long."""
    (keys / "signing").write_text(signing_key.private)
    (keys / "signers").write_text(json.dumps({"hr": signing_key.public}))
    data = random.Random(0).randbytes(3 << 20)
    small = scratch / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "backup-test", small], check=True)
    try:
        for module in (crypt, signature):
            monkeypatch.setattr(module, "KEYRINGS", small)
        with (
            recipients(keys / "public") as ring,
            private_key(keys / "drill") as opening,
            signature.signer(keys / "signing") as signing,
            signature.Signers(keys / "signers") as known,
        ):
            encrypted = ring.encrypt(data)
            known.check(signature.Signed("x", "hr", encrypted, signing.sign(encrypted)))
            assert opening.decrypt(encrypted) == data
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def test_one_key_is_not_enough(tmp_path: Path, recovery_key: OpenPgpKey) -> None:
    (tmp_path / "keys").write_text(recovery_key.public)
    with pytest.raises(WrongUse, match="holds 1 keys, expected 2 or more"):
        recipients(tmp_path / "keys").__enter__()


def test_a_public_key_is_no_private_key(keys: Path, scratch: Path) -> None:
    with (
        pytest.raises(WrongUse, match="holds no private key"),
        private_key(keys / "public"),
    ):
        pass


def test_a_keyring_is_private_and_leaves_nothing(keys: Path, scratch: Path) -> None:
    with private_key(keys / "drill") as ring:
        assert ring.home.stat().st_mode & 0o777 == 0o700
        assert len(ring.keys) == 1
    assert list(scratch.iterdir()) == []


def test_the_host_that_encrypts_has_public_keys_only(keys: Path, scratch: Path) -> None:
    with recipients(keys / "public") as ring:
        assert not list((ring.home / "private-keys-v1.d").glob("*"))
        assert len(ring.fingerprints) == 2


def test_a_key_serves_as_long_as_it_and_a_subkey_that_encrypts(
    gnupg_home: Path, scratch: Path, recovery_key: OpenPgpKey
) -> None:
    short = make_key(gnupg_home, "lasting@example.org", "30d")
    (scratch / "keys").write_text(short.public + recovery_key.public)
    with public_keys(scratch / "keys") as ring:
        found = {key.fingerprint: key for key in ring.keys}
    assert found[recovery_key.fingerprint].until("e") == EVER
    until = found[short.fingerprint].until("e")
    assert until is not None
    assert 29 <= (until - datetime.now(UTC)).days <= 30
    assert all(key.encrypts for key in found.values())

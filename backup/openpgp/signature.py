"""Who made a backup: each job signs its manifests with a key of its own that can do nothing else.

A detached OpenPGP signature, so that ``gpg --verify`` on any machine says the same as this program.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from backup.openpgp.crypt import GPG, KEYRINGS, Keyring, passed_through, private_key, public_keys
from backup.pipeline import ChildFailed, Stage
from backup.postgres.connection import plain_environment
from backup.scratch.directory import private_directory
from backup.settings import SIGNERS, read_json
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backup.openpgp.key import Key
    from backup.settings import Settings

LONGEST_SIGNATURE = 64 << 10  # bytes; one of RSA with 16,384 bits takes 3 KiB


@dataclass(frozen=True)
class Signer:
    """A private key that signs, for as long as its keyring is there."""

    ring: Keyring

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key."""
        return self.ring.fingerprints[0]

    def sign(self, data: bytes) -> bytes:
        """Return an armoured detached signature of ``data``."""
        argv = [
            *GPG, "--homedir", str(self.ring.home), f"--local-user={self.fingerprint}", "--armor",
            "--output=-", "--detach-sign",
        ]  # fmt: skip
        hint = "Look at the message of gpg, and at the key that signs."
        return passed_through(Stage(argv, plain_environment()), data, hint)[0]


@contextmanager
def signer(armoured: Path) -> Iterator[Signer]:
    """Yield the key in ``armoured``, which must be able to sign today."""
    with private_key(armoured) as ring:
        if not ring.keys[0].signs:
            raise WrongUse(
                f"key {ring.keys[0].fingerprint} in {armoured} is expired, revoked or cannot sign",
                hint="Put a valid private key there, and its public key among the signers.",
            )
        yield Signer(ring)


class NotTrusted(Failure):
    """It is not what a job of ours made, or nobody can tell that it is."""


@dataclass(frozen=True)
class Signed:
    """An object and its detached signature; ``what`` it is in an error's words, of which job.

    ``uploaded`` is when B2 took the signature, None where that says nothing of when it was made.
    """

    what: str
    signer: str
    data: bytes
    signature: bytes | None
    uploaded: datetime | None = None


class Signers:
    """The public keys that signatures are held against; rings of them live as long as the block."""

    def __init__(self, armoured: Path) -> None:
        """Read them from ``armoured`` when they are needed."""
        self.armoured = armoured
        self._opened = ExitStack()
        self._rings: dict[str, Keyring] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings) -> Signers:
        """Return the signers that the settings' secret file names."""
        return cls(settings.secret_path(SIGNERS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._rings.clear()
        self._opened.close()

    def check(self, signed: Signed) -> None:
        """Raise :class:`NotTrusted` unless the job's key signed, and was good at that time.

        A signature counts although its key has ended since, and not once the key is revoked. Who
        has taken a key that has ended can date a signature back, but not what B2 says of it.
        """
        if signed.signature is None:
            raise NotTrusted(
                f"{signed.what} is not signed",
                hint="Use another, or --id with --unsigned if you know where it is from.",
            )
        ring = self._ring(signed.signer)
        signature = self._read(ring, signed.data, signed.signature)
        ends = [key.end_of(signature.by) for key in ring.keys] if signature else []
        end = next(filter(None, ends), None)
        if signature is None or end is None:
            raise NotTrusted(
                f"{signed.what} is not signed by the key of {signed.signer}",
                hint="Somebody else wrote or changed it; use another and find out who.",
            )
        made = max(signature.made, signed.uploaded or signature.made)
        if made >= end:
            raise NotTrusted(
                f"{signed.what} is signed at {made:%Y-%m-%d %H:%M} UTC by a key of "
                f"{signed.signer} that ended at {end:%Y-%m-%d %H:%M}",
                hint="Somebody has that old key; use another and find out who.",
            )

    @staticmethod
    def _read(ring: Keyring, data: bytes, signature: bytes) -> _Signature | None:
        """Return what gpg tells of a signature that is good, None of any other."""
        if len(signature) > LONGEST_SIGNATURE:
            return None
        with private_directory(ring.home, "signed") as directory:
            detached = directory / "detached"
            detached.write_bytes(signature)
            verify = [
                *GPG, "--homedir", str(ring.home), "--no-autostart", "--trust-model=always",
                "--status-fd=1", "--logger-file=/dev/null", "--verify", str(detached), "-",
            ]  # fmt: skip
            try:
                status, _ = passed_through(Stage(verify, plain_environment()), data, hint="")
            except ChildFailed:
                return None
        return _read_status(status.decode(errors="replace"))

    def keys(self, name: str) -> tuple[Key, ...]:
        """Return the public keys of ``name``, those of before among them; none if it has none."""
        return self._ring(name).keys if name in self._public_keys() else ()

    def knows(self, name: str) -> bool:
        """Tell whether there is a key of ``name``, and a file at all."""
        return self.armoured.exists() and name in self._public_keys()

    def _ring(self, name: str) -> Keyring:
        with self._lock:
            if name not in self._rings:
                armoured = self._public_key(name)
                directory = self._opened.enter_context(private_directory(KEYRINGS, "signer"))
                file = directory / "key"
                file.write_bytes(armoured)
                self._rings[name] = self._opened.enter_context(public_keys(file))
            return self._rings[name]

    def _public_key(self, name: str) -> bytes:
        keys = self._public_keys()
        if name not in keys:
            raise WrongUse(f"secret file {self.armoured} has no key of {name}", hint=self._hint())
        return keys[name].encode()

    def _public_keys(self) -> dict[str, str]:
        """Return the armoured public keys, by the name of what they sign for."""
        return read_json(self.armoured, dict[str, str], '{"hr": "public key"}', self._hint())

    def _hint(self) -> str:
        return (
            f"Keep {self.armoured.name} with the recovery key: JSON, armoured public keys by name. "
            "Without it, --id with --unsigned restores what cannot be checked."
        )


@dataclass(frozen=True)
class _Signature:
    """A signature: the fingerprint of the key or subkey that made it, and when it says it did."""

    by: str
    made: datetime


def _read_status(status: str) -> _Signature | None:
    """Return the one good signature of which gpg's status lines (doc/DETAILS) tell."""
    lines = [line.split()[1:] for line in status.split("\n") if line.startswith("[GNUPG:] ")]
    words = [line[0] for line in lines if line]
    valid = [line for line in lines if line and line[0] == "VALIDSIG"]
    good = words.count("GOODSIG") + words.count("EXPKEYSIG")  # ended since
    # A bad, expired or unknown signature and one of a revoked key are told by other words.
    if good != 1 or len(valid) != 1 or words.count("NEWSIG") != 1:
        return None
    return _Signature(valid[0][1], datetime.fromtimestamp(int(valid[0][3]), UTC))

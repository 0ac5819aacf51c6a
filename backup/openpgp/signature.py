"""Who made a backup: each job signs its manifests with a key of its own that can do nothing else.

A detached OpenPGP signature, so that ``gpg --verify`` on any machine says the same as this program.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backup.openpgp.crypt import GPG, KEYRINGS, Key, Keyring, private_key, public_keys
from backup.pipeline import ChildFailed, run_tool
from backup.postgres.connection import plain_environment
from backup.scratch import private_directory
from backup.settings import SIGNERS, read_json
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backup.settings import Settings

log = get_logger(__name__)


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
        signed = self.ring.home / "signed"
        signed.write_bytes(data)
        return run_tool(
            [*GPG, "--homedir", self.ring.home, f"--local-user={self.fingerprint}", "--armor",
             "--output=-", "--detach-sign", signed],
            plain_environment(),
        ).encode()  # fmt: skip


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


@dataclass(frozen=True)
class Signers:
    """The public keys that manifests are held against.

    ``trusting`` takes what has no signature, or one that no key is there for, and says so in the
    log; never one that was checked and is wrong.
    """

    armoured: Path
    trusting: bool = False

    @classmethod
    def of(cls, settings: Settings, *, trusting: bool = False) -> Signers:
        """Return the signers that the settings' secret file names."""
        return cls(settings.secret_path(SIGNERS), trusting)

    def check(self, name: str, entry: str, data: bytes, signature: bytes | None) -> None:
        """Raise :class:`Failure` unless ``data``, of object ``name``, is signed for ``entry``.

        A signature counts although its key has expired since, and not once the key is revoked.
        """
        try:
            if signature is None:
                raise Failure(
                    f"manifest {name} is not signed",
                    hint="Use another backup, or --unsigned if you know where this one is from.",
                )
            self._public_key(entry)
        except Failure as error:
            if not self.trusting:
                raise
            log.warning("signature not checked, as you wish", object=name, why=error.message)
        else:
            self._verify(name, entry, data, signature)

    def _verify(self, name: str, entry: str, data: bytes, signature: bytes) -> None:
        with (
            private_directory(KEYRINGS, "signed") as directory,
            self._ring(entry) as ring,
        ):
            signed, detached = directory / "signed", directory / "detached"
            signed.write_bytes(data)
            detached.write_bytes(signature)
            verify = [
                *GPG, "--homedir", str(ring.home), "--no-autostart", "--trust-model=always",
                "--status-fd=1", "--verify", str(detached), str(signed),
            ]  # fmt: skip
            try:
                told = run_tool(verify, plain_environment())
            except ChildFailed:
                told = ""
        # A bad, expired or unknown signature and one of a revoked key are told by other words.
        if not any(word in told for word in ("[GNUPG:] GOODSIG ", "[GNUPG:] EXPKEYSIG ")):
            raise Failure(
                f"manifest {name} is not signed by the key of {entry}",
                hint="Somebody else wrote or changed it; use another backup and find out who.",
            )

    def keys(self, entry: str) -> tuple[Key, ...]:
        """Return the public keys of ``entry``, those of before among them; none if it has none."""
        if entry not in self._public_keys():
            return ()
        with self._ring(entry) as ring:
            return ring.keys

    @contextmanager
    def _ring(self, entry: str) -> Iterator[Keyring]:
        with private_directory(KEYRINGS, "signer") as directory:
            armoured = directory / "key"
            armoured.write_bytes(self._public_key(entry))
            with public_keys(armoured) as ring:
                yield ring

    def _public_key(self, entry: str) -> bytes:
        keys = self._public_keys()
        if entry not in keys:
            raise WrongUse(f"secret file {self.armoured} has no key of {entry}", hint=self._hint())
        return keys[entry].encode()

    def _public_keys(self) -> dict[str, str]:
        """Return the armoured public keys, by the name of what they sign for."""
        return read_json(self.armoured, dict[str, str], '{"hr": "public key"}', self._hint())

    def _hint(self) -> str:
        return (
            f"Keep {self.armoured.name} with the recovery key: JSON, armoured public keys by name. "
            "Without it, --unsigned restores what cannot be checked."
        )

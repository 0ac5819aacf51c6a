"""OpenPGP by ``gpg`` itself, in keyrings of its own that hold only the keys at hand.

The backup host knows public keys only, so it can decrypt nothing. Keyrings live in private
directories of the temporary directory, which jobs have in memory, and are removed with them.
"""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backup.pipeline import ChildFailed, Pipeline, Stage, run_tool
from backup.postgres.connection import plain_environment
from backup.scratch import MORE_ROOM, private_directory
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GPG = ("gpg", "--no-options", "--batch", "--no-tty", "--quiet", "--with-colons")
CAPABILITIES = 11  # the field's place in gpg's colon format (doc/DETAILS)
VALUE = 9
EXPIRY = 6  # seconds since 1970, empty for never
LEAST_RECIPIENTS = 2  # the offline recovery key, and the drill's
KEYRINGS = Path(tempfile.gettempdir())
LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Key:
    """A key pair's fingerprint, what gpg would use it for today, and until when."""

    fingerprint: str
    encrypts: bool
    signs: bool = False
    expires: datetime | None = None


@dataclass(frozen=True)
class Keyring:
    """A GnuPG home of this run's own."""

    home: Path
    keys: tuple[Key, ...]

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of all keys in it."""
        return tuple(key.fingerprint for key in self.keys)

    def encrypt_stage(self) -> Stage:
        """Return the stage that encrypts to every key of the ring.

        Without gpg's own compression, which is six times slower than the encryption and would
        find nothing to save after zstd. ``trust-model always``: the ring holds what Vault gave.
        """
        recipients = [f"--recipient={fingerprint}" for fingerprint in self.fingerprints]
        argv = [
            *GPG, "--homedir", str(self.home), "--no-autostart", "--trust-model=always",
            "--compress-algo=none", *recipients, "--output=-", "--encrypt",
        ]  # fmt: skip
        return Stage(argv, plain_environment())

    def decrypt_stage(self) -> Stage:
        """Return the stage that decrypts its input with the ring's private key."""
        argv = [*GPG, "--homedir", str(self.home), "--status-fd=2", "--output=-", "--decrypt"]
        return Stage(argv, plain_environment())


def parse_keys(colons: str) -> tuple[Key, ...]:
    """Return the primary keys in gpg's ``--with-colons`` listing of public or secret keys.

    gpg writes a capability in upper case when the key as a whole can be used for it, so ``E`` and
    ``S`` are missing from a key that is expired or revoked. A key serves until it expires itself or
    the last of its subkeys that encrypt does.
    """
    keys: list[Key] = []
    for block in _blocks(colons):
        primary = block[0]
        fingerprint = next(fields[VALUE] for fields in block if fields[0] == "fpr")
        subkeys = [
            _expiry(fields) or LAST
            for fields in block
            if fields[0] in ("sub", "ssb") and "e" in fields[CAPABILITIES]
        ]
        until = min(_expiry(primary) or LAST, max(subkeys, default=LAST))
        expires = None if until == LAST else until
        usable = primary[CAPABILITIES]
        keys.append(Key(fingerprint, "E" in usable, "S" in usable, expires))
    return tuple(keys)


def _blocks(colons: str) -> list[list[list[str]]]:
    """Return the lines of each key, split into fields."""
    blocks: list[list[list[str]]] = []
    for fields in (line.split(":") for line in colons.splitlines()):
        if fields[0] in ("pub", "sec"):
            blocks.append([])
        if blocks:
            blocks[-1].append(fields)
    return blocks


def _expiry(fields: list[str]) -> datetime | None:
    return datetime.fromtimestamp(int(fields[EXPIRY]), UTC) if fields[EXPIRY] else None


@contextmanager
def _imported(armoured: Path, listing: str) -> Iterator[Keyring]:
    with private_directory(KEYRINGS, "gpg", sockets=True) as home:
        environment = plain_environment()
        try:
            run_tool([*GPG, "--homedir", home, "--import", armoured], environment)
            colons = run_tool([*GPG, "--homedir", home, listing], environment)
        except ChildFailed as error:
            raise WrongUse(
                f"keys in {armoured} cannot be imported ({error.message})",
                hint="Render the file as the output of gpg --armor --export.",
            ) from error
        try:
            yield Keyring(home, parse_keys(colons))
        finally:
            with suppress(Failure):  # the agent that gpg starts for private keys
                run_tool(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], environment)


@contextmanager
def public_keys(armoured: Path) -> Iterator[Keyring]:
    """Yield a ring of the public keys in ``armoured``, good or not."""
    with _imported(armoured, "--list-keys") as ring:
        yield ring


@contextmanager
def recipients(armoured: Path) -> Iterator[Keyring]:
    """Yield a ring of the public keys in ``armoured``, each of which can be encrypted to now."""
    with public_keys(armoured) as ring:
        useless = [key.fingerprint for key in ring.keys if not key.encrypts]
        if useless:
            raise WrongUse(
                f"key {useless[0]} in {armoured} is expired, revoked or cannot encrypt",
                hint="Put a valid public key with an encryption subkey there.",
            )
        if len(ring.keys) < LEAST_RECIPIENTS:
            raise WrongUse(
                f"{armoured} holds {len(ring.keys)} keys, expected {LEAST_RECIPIENTS} or more",
                hint="Put the public keys of recovery and of the drill there: losing one private "
                "key must not lose every backup.",
            )
        yield ring


@contextmanager
def private_key(armoured: Path) -> Iterator[Keyring]:
    """Yield a ring of the private key in ``armoured``, which must need no passphrase."""
    with _imported(armoured, "--list-secret-keys") as ring:
        if not ring.keys:
            raise WrongUse(
                f"{armoured} holds no private key",
                hint="Render the file as the output of gpg --armor --export-secret-keys.",
            )
        yield ring


def decrypt(
    ring: Keyring, encrypted: Iterable[bytes], plain: Path | None, made_for: tuple[str, ...]
) -> None:
    """Decrypt and decompress ``encrypted`` into the new file ``plain``, or only try to.

    gpg writes plaintext before it finds tampering, so nothing in ``plain`` counts until this
    returns: it raises :class:`ChildFailed` unless every child ended well and gpg says that what
    it read was indeed encrypted. The rest of ``encrypted`` is then left.
    """
    unpack = ["zstd", "-q", "-d", "-c"] if plain else ["zstd", "-q", "-t"]
    stages = [ring.decrypt_stage(), Stage(unpack, plain_environment())]
    hint = f"The object is damaged, or the key at hand is none of {', '.join(made_for)}."
    with (
        plain.open("xb") if plain else open(os.devnull, "wb") as sink,
        Pipeline(stages, fed=True, sink=sink, hint=hint) as pipeline,
    ):
        pipeline.feed(encrypted)
        try:
            pipeline.finish()
        except ChildFailed as error:
            if os.strerror(errno.ENOSPC) in error.message:
                raise Failure(error.message, hint=MORE_ROOM) from error
            raise
        if "[GNUPG:] DECRYPTION_OKAY" not in pipeline.stderr(0):
            raise ChildFailed("gpg found nothing that is encrypted", hint=hint)

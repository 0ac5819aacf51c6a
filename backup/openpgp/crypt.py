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
from pathlib import Path
from typing import TYPE_CHECKING

from backup.openpgp.key import Key, count_left_out, parse_keys
from backup.pipeline import ChildFailed, Pipeline, Stage, run_tool
from backup.postgres.connection import plain_environment
from backup.scratch.directory import MORE_ROOM, private_directory
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DECRYPTED = "[GNUPG:] DECRYPTION_OKAY"
GPG = ("gpg", "--no-options", "--batch", "--no-tty", "--quiet", "--with-colons")
LEAST_RECIPIENTS = 2  # the offline recovery key, and the drill's
KEYRINGS = Path(tempfile.gettempdir())


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
        return self._encryption("--compress-algo=none")

    def _encryption(self, *words: str) -> Stage:
        recipients = [f"--recipient={fingerprint}" for fingerprint in self.fingerprints]
        argv = [
            *GPG, "--homedir", str(self.home), "--no-autostart", "--trust-model=always",
            *recipients, "--output=-", "--encrypt", *words,
        ]  # fmt: skip
        return Stage(argv, plain_environment())

    def encrypt(self, data: bytes) -> bytes:
        """Return ``data`` encrypted to every key of the ring. Raises :class:`ChildFailed`."""
        hint = "Look at the message of gpg, and at the public keys."
        return passed_through(self._encryption(), data, hint)[0]

    def decrypt(self, data: bytes) -> bytes:
        """Return what is encrypted in ``data``, all of it. Raises :class:`ChildFailed`."""
        hint = "Give the private key of a recipient."
        plain, told = passed_through(self.decrypt_stage(), data, hint)
        _require_decrypted(told, hint)
        return plain

    def decrypt_stage(self) -> Stage:
        """Return the stage that decrypts its input with the ring's private key."""
        argv = [*GPG, "--homedir", str(self.home), "--status-fd=2", "--output=-", "--decrypt"]
        return Stage(argv, plain_environment())


def passed_through(stage: Stage, data: bytes, hint: str) -> tuple[bytes, str]:
    """Return what ``stage`` makes of ``data``, and what it says on its standard error.

    By pipes and memory: the job's temporary directory is small, and ``data`` may be large.
    """
    with (
        os.fdopen(os.memfd_create(stage.name), "w+b") as sink,
        Pipeline([stage], fed=True, sink=sink, hint=hint) as pipeline,
    ):
        pipeline.feed([data])
        pipeline.finish()
        sink.seek(0)
        return sink.read(), pipeline.stderr(0)


def _require_decrypted(told: str, hint: str) -> None:
    if DECRYPTED not in told.split("\n"):
        raise ChildFailed("gpg found nothing that is encrypted", hint=hint)


@contextmanager
def _imported(*armoured: Path, listing: tuple[str, ...]) -> Iterator[Keyring]:
    with private_directory(KEYRINGS, "gpg", sockets=True) as home:
        environment = plain_environment()
        gpg = [*GPG, "--homedir", str(home)]
        try:
            try:
                status = run_tool([*gpg, "--status-fd=1", "--import", *armoured], environment)
                colons = run_tool([*gpg, *listing], environment)
            except ChildFailed as error:
                raise WrongUse(
                    f"keys in {_files(armoured)} cannot be imported ({error.message})",
                    hint="Render the file as the output of gpg --armor --export.",
                ) from error
            if left_out := count_left_out(status):
                raise WrongUse(
                    f"gpg leaves {left_out} of the keys in {_files(armoured)} out: without a user "
                    "id, of a kind that it does not know, or made later than this host's clock",
                    hint="Look at them with gpg --show-keys, and make such a key new.",
                )
            yield Keyring(home, parse_keys(colons))
        finally:
            with suppress(Failure):  # the agent that gpg starts for private keys
                run_tool(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], environment)


def _files(paths: Sequence[Path]) -> str:
    return " and ".join(map(str, paths))


@contextmanager
def public_keys(*armoured: Path) -> Iterator[Keyring]:
    """Yield a ring of the public keys in ``armoured``, good or not; a private one is refused."""
    with _imported(*armoured, listing=("--list-keys",)) as ring:
        if any((ring.home / "private-keys-v1.d").glob("*.key")):
            raise WrongUse(
                f"{_files(armoured)} holds a private key, only public ones belong there",
                hint="Replace it by the output of gpg --armor --export, and count that private "
                "key as lost: whoever reads this file can open what is encrypted to it.",
            )
        yield ring


@contextmanager
def recipients(armoured: Path, recovery: str | None = None) -> Iterator[Keyring]:
    """Yield a ring of the public keys in ``armoured``, each of which can be encrypted to now.

    With ``recovery``, the fingerprint of the recovery key, that must be one of them.
    """
    with public_keys(armoured) as ring:
        _require_encrypting(ring, armoured)
        if len(ring.keys) < LEAST_RECIPIENTS:
            raise WrongUse(
                f"{armoured} holds {len(ring.keys)} keys, expected {LEAST_RECIPIENTS} or more",
                hint="Put the public keys of recovery and of the drill there: losing one private "
                "key must not lose every backup.",
            )
        if recovery and recovery not in ring.fingerprints:
            raise WrongUse(
                f"{armoured} lacks the recovery key {recovery}, which is pinned",
                hint="Put its public key there. If recovery has a new key, pin that one: "
                "recovery_key in databases.toml, or BACKUP_RECOVERY_KEY.",
            )
        yield ring


@contextmanager
def manifest_recipients(of_dumps: Path, of_manifests: Path) -> Iterator[Keyring]:
    """Yield a ring of all that manifests are encrypted to: the dump's keys, and the manifests' own.

    That one opens manifests and no dump, so it may not be among the dump's.
    """
    with public_keys(of_dumps) as dumps, public_keys(of_manifests) as manifests:
        shared = set(dumps.fingerprints) & set(manifests.fingerprints)
    if shared:
        raise WrongUse(
            f"key {shared.pop()} is in {of_dumps} and in {of_manifests}",
            hint="Make a key of its own for manifests: whoever holds it is to open no dump.",
        )
    with public_keys(of_dumps, of_manifests) as ring:
        _require_encrypting(ring, of_dumps, of_manifests)
        yield ring


def _require_encrypting(ring: Keyring, *armoured: Path) -> None:
    useless = [key.fingerprint for key in ring.keys if not key.encrypts]
    if useless:
        raise WrongUse(
            f"key {useless[0]} in {_files(armoured)} is expired, revoked or cannot encrypt",
            hint="Put a valid public key with an encryption subkey there.",
        )


@contextmanager
def private_key(*armoured: Path) -> Iterator[Keyring]:
    """Yield a ring of the private keys in ``armoured``, which must need no passphrase."""
    with _imported(*armoured, listing=("--with-keygrip", "--list-secret-keys")) as ring:
        if not ring.keys:
            raise WrongUse(
                f"{_files(armoured)} holds no private key",
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
        _require_decrypted(pipeline.stderr(0), hint)

"""From the bucket back into a plain file, of which nothing counts before all of it was checked."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING

from backup.openpgp.crypt import decrypt
from backup.pipeline import ChildFailed
from backup.scratch.directory import private_directory, require_room
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backup.bucket.store import Store
    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring

log = get_logger(__name__)


class _Read:
    """Blocks as they go by, counted and hashed."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._digest.update(block)
            self.size += len(block)
            yield block

    @property
    def sha256(self) -> str:
        """The SHA-256 of what went by, in hexadecimal."""
        return self._digest.hexdigest()


def unpack(store: Store, manifest: Manifest, ring: Keyring, plain: Path | None) -> None:
    """Download, decrypt and decompress the dump into the new file ``plain``, or only try to.

    In one pass; nothing in ``plain`` counts until this returns, once size and SHA-256 were found
    as they were and gpg is content. Raises :class:`Failure`.
    """
    dump = manifest.dump
    if plain:
        require_room(plain.parent, manifest.plain_bytes, f"plain dump of {manifest.database}")
    failure = None
    with closing(store.stream(dump.name, dump.file_id)) as blocks:
        read = _Read(blocks)
        try:
            decrypt(ring, read, plain, manifest.recipients)
        except ChildFailed as error:
            failure = error
            for _ in read:  # to its end: only then is it known whether object or key is wrong
                pass
    if (read.size, read.sha256) != (dump.size, dump.sha256):
        raise Failure(
            f"object {dump.name} is damaged: {read.size} bytes with SHA-256 {read.sha256}, "
            f"{dump.size} with {dump.sha256} expected",
            hint="Use another backup, and look who or what changed this one.",
        ) from failure
    if failure:
        raise failure


def extract(store: Store, manifest: Manifest, ring: Keyring, path: Path) -> None:
    """Write the plain dump to the new file ``path``, whole or not at all, for this user alone."""
    with private_directory(path.parent, "restore") as beside:
        if path.exists():
            raise WrongUse(
                f"file {path} is there already", hint="Give a new name; nothing is overwritten."
            )
        plain = beside / "dump"
        unpack(store, manifest, ring, plain)
        plain.chmod(0o600)
        plain.rename(path)
    log.info("written", id=manifest.id, database=manifest.database, file=str(path))


def verify(store: Store, manifest: Manifest, ring: Keyring) -> None:
    """Read the whole object again: size, SHA-256, that it decrypts and that it unpacks."""
    unpack(store, manifest, ring, None)

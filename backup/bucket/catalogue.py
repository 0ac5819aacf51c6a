"""What backups there are, found by listing alone, and what their manifests say.

Listing needs no right to read, so a key that only lists can tell the newest backup and its age.
Which of them is ours only the signed manifest says, and what is in the bucket is held against it.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backup.bucket.download import Damaged
from backup.bucket.layout import (
    daily_folder,
    dump_name,
    merged,
    monthly_folder,
    old_folder,
    pair,
    purpose_folders,
)
from backup.bucket.store import open_store
from backup.deadline import threads
from backup.manifest import Manifest, parse_manifest
from backup.openpgp.opener import Opener
from backup.openpgp.signature import NotTrusted, Signed
from backup.registry import NAME, RESERVED
from backup.settings import B2_KEY
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from backup.bucket.layout import Backup, Place
    from backup.bucket.store import Store
    from backup.bucket.versions import StoredObject
    from backup.settings import Settings

AT_ONCE = 4  # manifests that are read beside each other: each waits for B2, then for gpg

log = get_logger(__name__)


@dataclass(frozen=True)
class PassedOver:
    """A backup that is newer than the one that was chosen, and why it is not trusted."""

    id: str
    why: str


@dataclass(frozen=True)
class Chosen:
    """A backup whose manifest is what its job signed, and what was passed over for it."""

    backup: Backup
    manifest: Manifest
    passed_over: tuple[PassedOver, ...] = ()


class Catalogue:
    """The backups of one environment, and the one session with B2 that a command has."""

    def __init__(self, store: Store, prefix: str, opener: Opener) -> None:
        """Read below ``prefix``; ``opener`` has the keys that manifests need."""
        self.store = store
        self.opener = opener
        self._prefix = prefix

    def backups(self, database: str) -> list[Backup]:
        """Return all backups of ``database``, oldest first; one with a copy is told once."""
        return merged(self._everything(database))

    def made(self, database: str) -> list[Backup]:
        """Return the backups of ``database`` where its job makes them, or did, oldest first."""
        folders = (old_folder(self._prefix, database), daily_folder(self._prefix, database))
        return merged(
            backup for folder in folders for backup in pair(folder, database, self._list(folder))
        )

    def kept(self, database: str) -> list[Backup]:
        """Return the copies that are kept longer, oldest first."""
        folder = monthly_folder(self._prefix, database)
        return pair(folder, database, self._list(folder), copied=True)

    def _list(self, folder: str) -> Iterable[StoredObject]:
        """Return what is in ``folder``, nothing if the key is bound to another one."""
        return self.store.list(folder) if self.store.may("listFiles", f"{folder}/") else ()

    def _everything(self, database: str) -> list[Backup]:
        return [*self.made(database), *self.kept(database)]

    def opens_manifests(self) -> bool:
        """Tell whether manifests can be read and opened here, or the bucket be listed only."""
        return self.store.may("readFiles") and self.opener.has_keys

    def names(self) -> tuple[str, ...]:
        """Return the names of all that has a folder here, also of what the registry has no more.

        What no registry could hold is no job's, and no text to be shown.
        """
        folders = {
            name
            for folder in purpose_folders(self._prefix)
            if self.store.may("listFiles", f"{folder}/")
            for name in self.store.folders(folder)
        }
        return tuple(sorted(name for name in folders - {*RESERVED} if re.fullmatch(NAME, name)))

    def find(
        self,
        names: Sequence[str],
        identifier: str | None = None,
        at: datetime | None = None,
    ) -> Chosen:
        """Return the backup ``identifier`` of any of ``names``, or the newest of them.

        It is the newest that is trusted: what is newer and is not is passed over, and the log says
        so. With ``at`` none is younger than that. Raises :class:`NotTrusted` if none is trusted.
        """
        backups = [each for name in names for each in self._everything(name)]
        what = identifier or "at all"
        if identifier is not None:
            backups = [backup for backup in backups if backup.id == identifier]
        if at is not None:
            backups = [backup for backup in backups if backup.taken <= at]
            what += f" from {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC or before"
        if not backups:
            raise Failure(
                f"no backup {what} of {', '.join(names)} under {self._prefix}/",
                hint="`backup list` shows the backups that are complete.",
            )
        return self.newest(backups)

    def newest(self, backups: Iterable[Backup]) -> Chosen:
        """Return the newest of ``backups`` that is trusted, of which there must be one.

        Raises :class:`NotTrusted` if none is, with the fault of the newest.
        """
        newest_first = sorted(backups, key=lambda each: each.started, reverse=True)
        passed_over: list[PassedOver] = []
        first: NotTrusted | None = None
        for backup in newest_first:
            try:
                manifest = self.manifest(backup)
            except NotTrusted as error:
                first = first or error
                passed_over.append(PassedOver(backup.id, error.message))
                continue
            for passed in passed_over:
                log.warning(
                    "newer backup passed over", database=backup.database, id=passed.id,
                    why=passed.why,
                )  # fmt: skip
            return Chosen(backup, manifest, tuple(passed_over))
        assert first is not None  # noqa: S101 - the caller gave one
        older = len(passed_over) - 1
        raise NotTrusted(
            first.message + (f", and {older} older ones are not trusted either" if older else ""),
            hint=first.hint,
        ) from first

    def manifest(self, backup: Backup) -> Manifest:
        """Read the manifest of ``backup``, check its signature, and that it is this backup's.

        What it says of the dump's place gives way to where it was found: a copy is elsewhere.
        Raises :class:`NotTrusted` for what no job of ours made, :class:`Failure` for what cannot
        be read.
        """
        what = f"manifest {backup.manifest.name}"
        signature = backup.signature
        data = self._get(backup.manifest)
        self.opener.check(
            Signed(
                what,
                backup.database,
                data,
                self._get(signature) if signature else None,
                signature.uploaded if signature and not backup.copied else None,
            )
        )
        plain = self.opener.decrypt(what, data) if backup.encrypted else data
        manifest = parse_manifest(backup.manifest.name, plain)
        self._hold(manifest, backup)
        place = {"name": backup.dump.name, "file_id": backup.dump.file_id}
        return manifest.model_copy(update={"dump": manifest.dump.model_copy(update=place)})

    def manifests(self, backups: Iterable[Backup]) -> list[Manifest | Failure]:
        """Return the manifest of each of ``backups``, or why it cannot be had, in their order."""

        def read(backup: Backup) -> Manifest | Failure:
            try:
                return self.manifest(backup)
            except Failure as error:
                return error

        with threads(AT_ONCE, "manifest") as pool:
            return list(pool.map(read, backups))

    def _hold(self, manifest: Manifest, backup: Backup) -> None:
        """Raise :class:`NotTrusted` unless the dump in the bucket is the one that is signed.

        A copy has another name and id. The SHA-256 of what is in it is known once it is read.
        """
        folders = (daily_folder(self._prefix, backup.database),
                   old_folder(self._prefix, backup.database))  # fmt: skip
        signed, there = manifest.dump, backup.dump
        names = {dump_name(folder, backup.id) for folder in folders}
        if not backup.copied:
            names &= {there.name}
        if (manifest.id, manifest.database) != (backup.id, backup.database) or (
            signed.name not in names
        ):
            raise NotTrusted(
                f"manifest {backup.manifest.name} tells of {signed.name}",
                hint="Somebody moved or rewrote it; use another backup and find out who.",
            )
        faults = []
        if signed.size != there.size:
            faults.append(f"has {there.size} bytes, {signed.size} are signed")
        if signed.sha1 and there.sha1 and signed.sha1 != there.sha1:
            faults.append(f"has the SHA-1 {there.sha1}, {signed.sha1} is signed")
        if not backup.copied and signed.file_id not in (there.file_id, *there.twins):
            faults.append(f"is the file {there.file_id}, {signed.file_id} is signed")
        if faults:
            raise NotTrusted(
                f"object {there.name} is not the one of its manifest: it {' and '.join(faults)}",
                hint="Somebody put another in its place; use another backup and find out who.",
            )

    def _get(self, place: Place) -> bytes:
        try:
            return self.store.get(place.name, place.file_id)
        except Damaged as error:
            raise NotTrusted(error.message, error.hint) from error


@contextmanager
def open_catalogue(
    settings: Settings,
    told: Callable[[int], None] = lambda _size: None,
    *,
    key_file: Path | None = None,
    unsigned: bool = False,
    any_clock: bool = True,
) -> Iterator[Catalogue]:
    """Authorise with the key of ``b2.json``, once, and yield the environment's backups.

    ``told`` and ``any_clock`` are :func:`backup.bucket.store.open_store`'s, ``key_file`` and
    ``unsigned`` :class:`backup.openpgp.opener.Opener`'s.
    """
    with (
        open_store(settings, settings.b2_key(B2_KEY), told, any_clock=any_clock) as store,
        Opener(settings, key_file, unsigned=unsigned) as opener,
    ):
        yield Catalogue(store, settings.prefix, opener)

"""What is backed up, a module a kind: each has its dump, its restore and its proof side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from backup.kinds import cluster, database, globals

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from backup.attempt import Attempt
    from backup.bucket.catalogue import Catalogue
    from backup.kinds.origin import Origin, Proof
    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring
    from backup.registry import Entry, Kind
    from backup.settings import Settings


class Module(Protocol):
    """What each module of a kind has. ``WORDS`` says what a plain dump of it is."""

    WORDS: str

    def alone(self, settings: Settings, entry: Entry) -> AbstractContextManager[bool]:
        """Keep others from dumping ``entry`` meanwhile, and tell whether that can be done.

        Raises Failure if another does already.
        """

    def dump(
        self, settings: Settings, entry: Entry, attempt: Attempt
    ) -> AbstractContextManager[Origin]:
        """Open ``entry`` for a dump. Raises Disturbed if another attempt may do better, Failure."""

    def prove(
        self, settings: Settings, catalogue: Catalogue, ring: Keyring, manifest: Manifest, jobs: int
    ) -> Proof:
        """Restore the backup of ``manifest`` where it harms nobody, and compare. Raises Failure."""


KINDS: dict[Kind, Module] = {
    "database": database,
    "globals": globals,
    "nomad": cluster,
    "vault": cluster,
}

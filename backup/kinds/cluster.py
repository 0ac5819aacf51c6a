"""The state of Nomad, or of Vault, as the server's own snapshot of itself."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from backup.cluster import check_snapshot
from backup.kinds.origin import Origin, Proof
from backup.pipeline import Stage
from backup.postgres.connection import plain_environment
from backup.restoration.unpack import extract
from backup.scratch.directory import private_directory
from backup.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from backup.attempt import Attempt
    from backup.bucket.catalogue import Catalogue
    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring
    from backup.registry import Entry

WORDS = "a snapshot of the cluster"
# What Python itself is told by: where modules are, and which certificates to trust.
OF_PYTHON = ("PYTHONPATH", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def alone(_settings: Settings, _entry: Entry) -> AbstractContextManager[bool]:
    """Keep nobody from it: a snapshot is in nobody's way."""
    return nullcontext(False)


@contextmanager
def dump(settings: Settings, entry: Entry, _attempt: Attempt) -> Iterator[Origin]:
    """Open the server's snapshot, which a program of its own reads."""
    given = {name: os.environ[name] for name in os.environ if name.startswith(Settings.PREFIX)}
    inherited = {name: os.environ[name] for name in OF_PYTHON if name in os.environ}
    argv = [sys.executable, "-m", "backup.cluster", entry.kind]
    settings.address(entry.kind)
    yield Origin(Stage(argv, plain_environment() | inherited | given), dict)


def prove(
    settings: Settings, catalogue: Catalogue, ring: Keyring, manifest: Manifest, jobs: int
) -> Proof:
    """Read the snapshot to its end; whether a server would take it only a server can tell."""
    with private_directory(settings.scratch, "snapshot") as directory:
        began = time.monotonic()
        plain = directory / "snapshot"
        extract(catalogue.store, manifest, ring, plain)
        with plain.open("rb") as stream:
            check_snapshot(manifest.kind, stream)
        return Proof(time.monotonic() - began, plain.stat().st_size, ())

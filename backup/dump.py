"""One backup: a single pass from where the data is into the bucket."""

from __future__ import annotations

import hashlib
import os
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backup.bucket.catalogue import SIGNATURE, daily_folder, dump_name, manifest_name, new_id
from backup.bucket.store import open_store
from backup.bucket.upload import Paced, plan_parts
from backup.kinds import KINDS
from backup.manifest import Manifest, StoredDump
from backup.openpgp.crypt import recipients
from backup.openpgp.signature import signer
from backup.pipeline import Pipeline, Stage
from backup.postgres.connection import plain_environment
from backup.settings import B2_KEY, RECIPIENTS, SIGNING_KEY, Settings
from frame.failure import Failure
from frame.log import get_logger
from frame.version import own_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.kinds.origin import Origin
    from backup.registry import Entry

# On every core, to four: they outrun gpg, and each further one takes 10 MB. Level 2 takes half the
# time and memory of zstd's own choice, 3, and its files are no larger: 193 against 199 MB of 649 of
# bench's mixed data. The compression of gpg itself, as that of pg_dump, is many times slower.
ZSTD = ("zstd", "-q", "-2", f"-T{min(os.cpu_count() or 1, 4)}", "-c")

log = get_logger(__name__)


class DumpStream:
    """The encrypted dump as the uploader reads it: counted, hashed, and never ended early.

    Its end is given only after every child ended with 0 and all about the origin is known.
    """

    def __init__(self, pipeline: Pipeline, origin: Origin) -> None:
        self._pipeline = pipeline
        self._origin = origin
        self._digest = hashlib.sha256()
        self.size = 0

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` and return how far, or raise what went wrong."""
        count = self._pipeline.readinto(buffer)
        self._origin.check()
        if not count:
            self._origin.finish()
        self._digest.update(buffer[:count])
        self.size += count
        return count

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was read so far, in hexadecimal."""
        return self._digest.hexdigest()


def run_backup(
    settings: Settings, entry: Entry, told: Callable[[int], None] = lambda _size: None
) -> Manifest:
    """Back up ``entry`` and return the manifest that was written last.

    ``told`` hears of the bytes of each part that is in the bucket. Raises :class:`Failure` on
    any failure, and then there is no manifest.
    """
    with (
        recipients(settings.secret_path(RECIPIENTS)) as ring,
        signer(settings.secret_path(SIGNING_KEY)) as signing,
        open_store(settings, settings.b2_key(B2_KEY), told) as store,
        KINDS[entry.kind].dump(settings, entry) as origin,
    ):
        folder = daily_folder(settings.prefix, entry.name)
        if origin.locked:  # so these are what a killed run left, and not a neighbour's
            store.cancel_unfinished(f"{folder}/")
        started = datetime.now(UTC)
        identifier = new_id(started, secrets.token_hex(4))
        plan = plan_parts(max(int(entry.expected_size), origin.size), int(settings.part_minimum))
        log.info("backup started", database=entry.name, id=identifier, part=plan.first)
        zstd = Stage(ZSTD, plain_environment())
        hint = "No backup was made; look at the message and run again."
        name = dump_name(folder, identifier)
        with Pipeline([origin.stage, zstd, ring.encrypt_stage()], hint=hint) as pipeline:
            stream = DumpStream(pipeline, origin)
            paced = Paced(stream, settings.bandwidth) if settings.bandwidth else stream
            stored = store.upload_stream(name, paced, plan)
        if stored.size != stream.size:
            raise Failure(
                f"object {name} has {stored.size} bytes in the bucket, {stream.size} were sent",
                hint="Nothing counts as a backup without its manifest; run again.",
            )
        facts = origin.facts()
        facts["warnings"] = (*pipeline.complaints, *facts.get("warnings", ()))
        manifest = Manifest(
            kind=entry.kind,
            id=identifier,
            database=entry.name,
            dump=StoredDump(
                name=name, file_id=stored.file_id, size=stored.size, sha256=stream.sha256
            ),
            started=started,
            finished=datetime.now(UTC),
            recipients=ring.fingerprints,
            signer=signing.fingerprint,
            program_version=own_version(),
            **facts,
        )
        marker, data = manifest_name(folder, identifier), manifest.to_json()
        signature = signing.sign(data)
        store.put(marker + SIGNATURE, signature, content_type="application/pgp-signature")
        store.put(marker, data)
    log.info("backup done", database=entry.name, id=identifier, size=manifest.dump.size)
    return manifest

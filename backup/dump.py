"""One backup: a single pass from where the data is into the bucket."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backup.attempt import Attempts
from backup.bucket.download import LARGEST_SMALL
from backup.bucket.layout import SIGNATURE, daily_folder, dump_name, manifest_name, new_id
from backup.bucket.store import open_store
from backup.bucket.upload import Paced, plan_parts
from backup.kinds import KINDS
from backup.manifest import Manifest, StoredDump
from backup.openpgp.crypt import manifest_recipients, recipients
from backup.openpgp.signature import signer
from backup.pipeline import Pipeline, Stage
from backup.postgres.connection import plain_environment
from backup.settings import B2_KEY, MANIFEST_RECIPIENT, RECIPIENTS, SIGNING_KEY, Settings
from backup.waits import waiting_for
from frame.failure import Failure
from frame.log import get_logger
from frame.version import own_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backup.attempt import Attempt
    from backup.bucket.store import Store
    from backup.bucket.versions import StoredObject
    from backup.kinds.origin import Origin
    from backup.openpgp.crypt import Keyring
    from backup.openpgp.signature import Signer
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
        self._ended = False
        self.size = 0

    def begin(self) -> int:
        """Begin what goes on beside the dump, which runs, and return the bytes to expect."""
        with self._explained():
            return self._origin.begin()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Failure as error:
            cause = self._origin.explain(error, self._pipeline.plain_size)
            if cause is error:
                raise
            raise cause from error

    def readinto(self, buffer: memoryview) -> int:
        """Fill the beginning of ``buffer`` and return how far, or raise what went wrong."""
        if self._ended:
            return 0
        with self._explained():
            count = self._pipeline.readinto(buffer)
            self._origin.check()
            if not count:
                with waiting_for("PostgreSQL", "what is left of the proofs"):
                    self._origin.finish()
                self._ended = True
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

    An attempt that is disturbed at the source is repeated. ``told`` hears of the bytes of each part
    that is in the bucket. Raises :class:`Failure` on any failure, and then there is no manifest.
    """
    of_dumps, of_manifests = map(settings.secret_path, (RECIPIENTS, MANIFEST_RECIPIENT))
    with (
        recipients(of_dumps, settings.pinned_recovery()) as ring,
        manifest_recipients(of_dumps, of_manifests) as manifest_ring,
        signer(settings.secret_path(SIGNING_KEY)) as signing,
        open_store(settings, settings.b2_key(B2_KEY), told) as store,
        KINDS[entry.kind].alone(settings, entry) as alone,
    ):
        backup = _Backup(settings, entry, ring, manifest_ring, signing, store)
        if alone:  # so these are what a killed run left, and not a neighbour's
            store.cancel_unfinished(f"{backup.folder}/")
        return Attempts().make(backup.attempt)


@dataclass(frozen=True)
class _Backup:
    """What all attempts at one backup have in common."""

    settings: Settings
    entry: Entry
    ring: Keyring
    manifest_ring: Keyring
    signing: Signer
    store: Store

    @property
    def folder(self) -> str:
        """The folder of the bucket that its objects go to."""
        return daily_folder(self.settings.prefix, self.entry.name)

    def attempt(self, attempt: Attempt) -> Manifest:
        """Make the backup, of an id of its own, and return its manifest.

        Raises :class:`Disturbed` if another attempt may do better, and Failure.
        """
        started = datetime.now(UTC)
        identifier = new_id(started, secrets.token_hex(4))
        with (
            self.store.tidied(),  # behind the sessions on the source
            KINDS[self.entry.kind].dump(self.settings, self.entry, attempt) as origin,
        ):
            log.info("backup started", database=self.entry.name, id=identifier)
            dump, pipeline = self._upload(dump_name(self.folder, identifier), origin)
            facts = origin.facts()
            facts["warnings"] = (*pipeline.complaints, *facts.get("warnings", ()))
        manifest = Manifest(
            kind=self.entry.kind,
            id=identifier,
            database=self.entry.name,
            dump=dump,
            started=started,
            finished=datetime.now(UTC),
            plain_size=pipeline.plain_size,
            recipients=self.ring.fingerprints,
            signer=self.signing.fingerprint,
            program_version=own_version(),
            **facts,
        )
        marker = manifest_name(self.folder, identifier)
        data = self.manifest_ring.encrypt(manifest.to_json())
        signature = self.signing.sign(data)
        if len(data) > LARGEST_SMALL:
            raise Failure(
                f"manifest of {len(data)} bytes is too large, {LARGEST_SMALL} at most are read",
                hint="Back its schemas up as databases of their own: nobody could check this one.",
            )
        put = self.store.put
        self._require_first(
            dump,
            put(marker + SIGNATURE, signature, content_type="application/pgp-signature"),
            put(marker, data, content_type="application/pgp-encrypted"),
        )
        log.info("backup done", database=self.entry.name, id=identifier, size=dump.size)
        return manifest

    def _require_first(self, *made: StoredDump | StoredObject) -> None:
        """Raise Failure if somebody had put an object of such a name there: the oldest counts.

        The names can be seen as soon as an upload begins.
        """
        try:
            there = {stored.name: stored for stored in self.store.list(self.folder)}
        except Failure as failure:  # the backup is there
            log.warning("not seen what else is there", folder=self.folder, why=failure.message)
            return
        for each in made:
            first = there.get(each.name)
            if first is None or each.file_id not in (first.file_id, *first.twins):
                raise Failure(
                    f"object {each.name} was there already, so this backup will not be trusted",
                    hint="Somebody has the writer's key: renew it, and run again.",
                )

    def _upload(self, name: str, origin: Origin) -> tuple[StoredDump, Pipeline]:
        """Upload the dump, and return what is in the bucket and the chain that made it."""
        stages = [origin.stage, Stage(ZSTD, plain_environment()), self.ring.encrypt_stage()]
        hint = "No backup was made; look at the message and run again."
        with Pipeline(stages, metered=True, look=origin.look, hint=hint) as pipeline:
            stream = DumpStream(pipeline, origin)
            expected = max(int(self.entry.expected_size), stream.begin())
            plan = plan_parts(expected, int(self.settings.part_minimum))
            rate = self.settings.bandwidth
            stored = self.store.upload_stream(name, Paced(stream, rate) if rate else stream, plan)
        if stored.size != stream.size:
            raise Failure(
                f"object {name} has {stored.size} bytes in the bucket, {stream.size} were sent",
                hint="Nothing counts as a backup without its manifest; run again.",
            )
        dump = StoredDump(
            name=name, file_id=stored.file_id, size=stored.size, sha256=stream.sha256,
            sha1=stored.sha1,
        )  # fmt: skip
        return dump, pipeline

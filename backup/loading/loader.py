"""pg_restore as a child: what it is told, and what it says of what it could not load."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from backup.loading.words import Complaint, Listener, lines
from backup.meter import BLOCK_BYTES
from backup.pipeline import ChildFailed, Pipeline, Stage
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from backup.loading.archive import Archive, Entry
    from backup.postgres.connection import PostgresUri
    from backup.restoration.target import Wanted

_OPTIONS = "PGOPTIONS"
_NO_LOCKS = "out of shared memory"
_WHOLE = "Nothing was changed in the target"
_PART = "Drop the target database, create it again and repeat the restore"


@dataclass(frozen=True)
class Loader:
    """How pg_restore is run.

    ``may_speak_english``: the session may choose the language of the server's messages.
    """

    pg_bin: Path
    plain: Path
    target: PostgresUri
    wanted: Wanted
    archive: Archive
    may_speak_english: bool

    def load(self, entries: tuple[Entry, ...]) -> Listener:
        """Load these entries in their order, and return what was heard. Raises Failure."""
        restored = self.archive.with_entries(entries)
        listener = Listener(restored)
        argv = [*self._options(), *self._choice(entries)]
        blocks = self._changed(restored) if self.wanted.schema else None
        hint = f"{_WHOLE if self.wanted.whole else _PART}."
        try:
            with (
                ThreadPoolExecutor(1, "feed") as feeder,  # ends behind the child
                Pipeline(
                    [Stage(argv, self._environment(), is_heard=True)], fed=bool(blocks), hint=hint
                ) as pipeline,
            ):
                feeding = feeder.submit(pipeline.feed, blocks) if blocks else None
                for line in lines(pipeline.blocks(), self.archive.encoding):
                    listener.hear(line)
                if feeding:
                    feeding.result()
        except ChildFailed as error:
            listener.end()
            if not (self.wanted.keep_going and listener.is_complete):
                raise _failure(listener, error, restored, self.wanted) from None
        else:
            listener.end()
        return listener

    def _environment(self) -> Mapping[str, str]:
        """Return pg_restore's environment: its own words, which are read here, are English."""
        environment = self.target.environment() | {"LC_ALL": "C"}
        if self.may_speak_english:
            options = environment.get(_OPTIONS, "")
            environment[_OPTIONS] = f"{options} -c lc_messages=C".strip()
        return environment

    def _options(self) -> list[str | Path]:
        return [
            self.pg_bin / "pg_restore", "--verbose", "--no-password",
            # As a conninfo string, or a name with = in it would be read as one.
            f"--dbname={make_conninfo(dbname=self.target.database())}",
            *([] if self.wanted.keep_going else ["--exit-on-error"]),
            *(["--single-transaction"] if self.wanted.whole else []),
            *(["--no-owner", "--no-privileges"] if self.wanted.owners == "skip" else []),
            *(["--no-tablespaces"] if self.wanted.tablespaces == "skip" else []),
        ]  # fmt: skip

    def _choice(self, entries: tuple[Entry, ...]) -> list[str | Path]:
        """Return what is loaded and by how many, none of which fits a head that is changed."""
        if self.wanted.schema:
            return []
        jobs = [] if self.wanted.whole else [f"--jobs={self.wanted.jobs}"]
        if entries == self.archive.entries:
            return [*jobs, self.plain]
        chosen = self.plain.with_name("list")  # of which a number a line is enough
        chosen.write_text("".join(f"{entry.number};\n" for entry in entries))
        return [*jobs, f"--use-list={chosen}", self.plain]

    def _changed(self, restored: Archive) -> Iterator[bytes]:
        """Yield the archive with another head. pg_restore passes over what that does not have."""
        yield restored.without_places().head()
        with self.plain.open("rb") as stream:
            stream.seek(restored.size)
            while block := stream.read(BLOCK_BYTES):
                yield block


def _failure(listener: Listener, error: ChildFailed, archive: Archive, wanted: Wanted) -> Failure:
    """Return what is to be said of a load that ended early."""
    complaints = [*listener.complaints, *(Complaint(None, each) for each in listener.warnings)]
    if not complaints:
        return error
    if wanted.keep_going:  # the last ended it, not those before
        return Failure(f"pg_restore ended early: {complaints[-1].message}", f"{_PART}.")
    complaint = next((each for each in complaints if each.number), complaints[0])
    entry = archive.by_number.get(complaint.number or 0)
    what = f"{entry.label} was not loaded" if entry else "pg_restore ended early"
    way = "mend the cause and repeat it, or give --keep-going to load the rest"
    if _NO_LOCKS in complaint.message and wanted.whole:
        way = "raise max_locks_per_transaction, or give --keep-going, which is no one transaction"
    return Failure(
        f"{what}: {complaint.message}",
        hint=f"{_WHOLE}; {way}." if wanted.whole else f"{_PART}; or give --keep-going.",
    )

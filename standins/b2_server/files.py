"""Versions of files: finished, hide markers and unfinished large files, with their pieces."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from .buckets import PLAIN, UNLOCKED, if_read

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from .buckets import Bucket
    from .clock import Clock
    from .contents import Contents
    from .database import Database
    from .errors import Json
    from .keys import Key

_NEWEST_FIRST = "ORDER BY name, uploaded_ms DESC, number DESC"


@dataclass(frozen=True)
class FileVersion:
    """One version; ``action`` is upload, hide or start, ``length`` is in bytes."""

    file_id: str
    bucket_id: str
    name: str
    action: str
    content_type: str | None
    sha1: str | None
    length: int
    info: dict[str, str]
    encryption: Json
    retention: Json
    uploaded_ms: int

    def locked(self, now_ms: int) -> bool:
        """Tell whether nobody may delete it yet; an unfinished large file may be cancelled."""
        until_ms = self.retention["retainUntilTimestamp"]
        return self.action == "upload" and until_ms is not None and now_ms < until_ms

    def shown(self, account_id: str, key: Key) -> Json:
        """Return the version as B2 shows it to the bearer of ``key``."""
        return {
            "accountId": account_id,
            "action": self.action,
            "bucketId": self.bucket_id,
            "contentLength": self.length,
            "contentMd5": None,
            "contentSha1": self.sha1,
            "contentType": self.content_type,
            "fileId": self.file_id,
            "fileInfo": self.info,
            "fileName": self.name,
            "fileRetention": if_read(key, "readFileRetentions", self.retention),
            "legalHold": if_read(key, "readFileLegalHolds", None),
            "replicationStatus": None,
            "serverSideEncryption": self.encryption,
            "uploadTimestamp": self.uploaded_ms,
        }


@dataclass(frozen=True)
class Piece:
    """The bytes of a small file, or of one part of a large one."""

    number: int
    blob: str
    length: int
    sha1: str
    uploaded_ms: int

    def shown(self, version: FileVersion) -> Json:
        """Return the part as B2 shows it."""
        return {
            "contentLength": self.length,
            "contentMd5": None,
            "contentSha1": self.sha1,
            "fileId": version.file_id,
            "partNumber": self.number,
            "serverSideEncryption": version.encryption,
            "uploadTimestamp": self.uploaded_ms,
        }


def bucket_of(file_id: str) -> str:
    """Return the bucket's id that every file id holds, so that a guess tells nothing."""
    return file_id.removeprefix("4_z").partition("_")[0]


class Files:
    """The file versions of all buckets. Metadata is committed after the bytes are in place."""

    def __init__(self, database: Database, contents: Contents, clock: Clock) -> None:
        self._database, self._contents, self._clock = database, contents, clock

    def draft(self, bucket: Bucket, name: str, action: str) -> FileVersion:
        """Return a new version with an id and a time, to be filled in and added."""
        now_ms = self._clock.now_ms()
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        file_id = (
            f"4_z{bucket.bucket_id}_f{secrets.token_hex(8)}_d{now:%Y%m%d}_m{now:%H%M%S}"
            f"_c005_v0501000_t0000_u{now_ms:014d}"
        )
        return FileVersion(
            file_id, bucket.bucket_id, name, action, None, None, 0, {}, bucket.encryption,
            bucket.retention(now_ms), now_ms,
        )  # fmt: skip

    def add(self, version: FileVersion, pieces: tuple[Piece, ...] = ()) -> FileVersion:
        """Store a version, with its bytes if it has any."""
        with self._database.transaction():
            self._database.run(
                "INSERT INTO file_version (file_id, bucket_id, name, action, content_type, sha1,"
                " length, info, encryption, retention, uploaded_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                version.file_id, version.bucket_id, version.name, version.action,
                version.content_type, version.sha1, version.length, json.dumps(version.info),
                json.dumps(version.encryption), json.dumps(version.retention), version.uploaded_ms,
            )  # fmt: skip
            for piece in pieces:
                self._insert(version.file_id, piece)
        return version

    def find(self, file_id: str) -> FileVersion | None:
        """Return a version by its id."""
        row = self._database.row("SELECT * FROM file_version WHERE file_id = ?", file_id)
        return None if row is None else _version(row)

    def unfinished(self, file_id: str) -> FileVersion | None:
        """Return a large file that is still being uploaded."""
        found = self.find(file_id)
        return found if found is not None and found.action == "start" else None

    def newest(self, bucket_id: str, name: str) -> FileVersion | None:
        """Return the version that a name stands for: a finished one, or a hide marker."""
        row = self._database.row(
            "SELECT * FROM file_version WHERE bucket_id = ? AND name = ? AND action != 'start' "
            + _NEWEST_FIRST, bucket_id, name,
        )  # fmt: skip
        return None if row is None else _version(row)

    def versions(
        self, bucket_id: str, prefix: str, start_name: str = "", start_id: str | None = None
    ) -> Iterator[FileVersion]:
        """Yield a bucket's versions by name and then newest first, from a place on.

        ``start_id`` may be gone by now: its place in the order is in the id itself.
        """
        skip_to = None if start_id is None else int(start_id.rpartition("_u")[2])
        for row in self._database.rows(
            f"SELECT * FROM file_version WHERE bucket_id = ? AND name >= ? {_NEWEST_FIRST}",
            bucket_id, max(prefix, start_name, key=str.encode),
        ):  # fmt: skip
            if not row["name"].startswith(prefix):
                return
            if skip_to is not None and row["name"] == start_name:
                if row["file_id"] != start_id and row["uploaded_ms"] >= skip_to:
                    continue
                skip_to = None
            yield _version(row)

    def all_unfinished(
        self, bucket_id: str, prefix: str, start_id: str | None
    ) -> Iterator[FileVersion]:
        """Yield a bucket's unfinished large files, the first started first."""
        for row in self._database.rows(
            "SELECT * FROM file_version WHERE bucket_id = ? AND action = 'start' AND number >="
            " coalesce((SELECT number FROM file_version WHERE file_id = ?), 0) ORDER BY number",
            bucket_id, start_id,
        ):  # fmt: skip
            if row["name"].startswith(prefix):
                yield _version(row)

    def pieces(self, file_id: str) -> list[Piece]:
        """Return the pieces of a version in their order."""
        rows = self._database.rows("SELECT * FROM piece WHERE file_id = ? ORDER BY number", file_id)
        return [
            Piece(row["number"], row["blob"], row["length"], row["sha1"], row["uploaded_ms"])
            for row in rows
        ]

    def put_piece(self, file_id: str, piece: Piece) -> None:
        """Store a part of a large file, in the place of the one with the same number."""
        replaced = [old.blob for old in self.pieces(file_id) if old.number == piece.number]
        with self._database.transaction():
            self._database.run(
                "DELETE FROM piece WHERE file_id = ? AND number = ?", file_id, piece.number
            )
            self._insert(file_id, piece)
        self._contents.remove(replaced)

    def finish(self, version: FileVersion, length: int) -> FileVersion:
        """Turn an unfinished large file into a file; it keeps the time when it was started."""
        self._database.run(
            "UPDATE file_version SET action = 'upload', length = ? WHERE file_id = ?",
            length, version.file_id,
        )  # fmt: skip
        return replace(version, action="upload", length=length)

    def hide(self, bucket: Bucket, name: str) -> FileVersion:
        """Put a hide marker on a name."""
        marker = self.draft(bucket, name, "hide")
        return self.add(replace(marker, encryption=PLAIN, retention=UNLOCKED))

    def remove(self, file_id: str) -> None:
        """Delete a version and its bytes."""
        blobs = [piece.blob for piece in self.pieces(file_id)]
        with self._database.transaction():
            self._database.run("DELETE FROM piece WHERE file_id = ?", file_id)
            self._database.run("DELETE FROM file_version WHERE file_id = ?", file_id)
        self._contents.remove(blobs)

    def flip_bit(self, file_id: str, offset: int) -> None:
        """Damage the stored bytes at ``offset`` and let every record say that all is well."""
        for piece in self.pieces(file_id):
            if offset < piece.length:
                self._contents.flip_bit(piece, offset)
                return
            offset -= piece.length

    def truncate(self, file_id: str, length: int) -> None:
        """Lose all bytes from ``length`` on: the file is shorter, and looks whole."""
        left = length
        for piece in self.pieces(file_id):
            kept = min(left, piece.length)
            left -= kept
            self._contents.truncate(piece, kept)
            self._database.run(
                "UPDATE piece SET length = ? WHERE file_id = ? AND number = ?",
                kept, file_id, piece.number,
            )  # fmt: skip
        self._database.run(
            "UPDATE file_version SET length = ? WHERE file_id = ?", length - left, file_id
        )

    def blobs(self) -> set[str]:
        """Return the names of all blobs that belong to a version."""
        return {row["blob"] for row in self._database.rows("SELECT blob FROM piece")}

    def _insert(self, file_id: str, piece: Piece) -> None:
        self._database.run(
            "INSERT INTO piece VALUES (?, ?, ?, ?, ?, ?)",
            file_id, piece.number, piece.blob, piece.length, piece.sha1, piece.uploaded_ms,
        )  # fmt: skip


def _version(row: sqlite3.Row) -> FileVersion:
    return FileVersion(
        row["file_id"], row["bucket_id"], row["name"], row["action"], row["content_type"],
        row["sha1"], row["length"], json.loads(row["info"]), json.loads(row["encryption"]),
        json.loads(row["retention"]), row["uploaded_ms"],
    )  # fmt: skip

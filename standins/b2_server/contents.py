"""The bytes of the files: a blob is one file on disk, the whole of a small file or one part."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .files import Piece

# Large enough that system calls do not count, small enough that a hundred streams fit in 128 MB.
CHUNK_BYTES = 1024 * 1024


class Incoming:
    """A blob being written: hashed on the way, and gone unless it is kept."""

    def __init__(self, file: BinaryIO, path: Path, final: Path) -> None:
        self._file, self._path, self._final = file, path, final
        self._hash = hashlib.sha1(usedforsecurity=False)
        self.length = 0

    def write(self, chunk: bytes) -> None:
        """Append a chunk."""
        self._file.write(chunk)
        self._hash.update(chunk)
        self.length += len(chunk)

    def sha1(self) -> str:
        """Return the SHA-1 of what was written so far, in hex."""
        return self._hash.hexdigest()

    def keep(self) -> str:
        """Put the blob in its place and return its name, for the metadata to hold."""
        self._file.close()
        self._path.replace(self._final)
        return self._final.name

    def close(self) -> None:
        """Close the file and remove it, if it was not kept."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class Contents:
    """The directory of blobs."""

    def __init__(self, directory: Path) -> None:
        self._incoming, self._kept = directory / "incoming", directory / "blobs"
        self._incoming.mkdir(parents=True, exist_ok=True)
        self._kept.mkdir(exist_ok=True)

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """Give a new blob to write; it is removed at the end of the block unless kept."""
        name = secrets.token_hex(16)
        path = self._incoming / name
        incoming = Incoming(path.open("xb"), path, self._kept / name)
        try:
            yield incoming
        finally:
            incoming.close()

    def read(self, pieces: Sequence[Piece], start: int, length: int) -> Iterator[bytes]:
        """Yield ``length`` bytes from ``start`` on, of the pieces laid end to end."""
        end, offset = start + length, 0
        for piece in pieces:
            first, last = max(start - offset, 0), min(end - offset, piece.length)
            offset += piece.length
            if first >= last:
                continue
            with (self._kept / piece.blob).open("rb", buffering=0) as file:
                file.seek(first)
                left = last - first
                while left and (chunk := file.read(min(CHUNK_BYTES, left))):
                    left -= len(chunk)
                    yield chunk

    def flip_bit(self, piece: Piece, offset: int) -> None:
        """Change the lowest bit of the byte at ``offset`` of a stored piece."""
        with (self._kept / piece.blob).open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))

    def truncate(self, piece: Piece, length: int) -> None:
        """Cut a stored piece to its first ``length`` bytes."""
        os.truncate(self._kept / piece.blob, length)

    def remove(self, blobs: Sequence[str]) -> None:
        """Delete blobs that the metadata no longer names."""
        for blob in blobs:
            with suppress(FileNotFoundError):
                (self._kept / blob).unlink()

    def sweep(self, named: set[str]) -> None:
        """Delete what a killed server left behind: half-written blobs, and unnamed ones."""
        for path in self._incoming.iterdir():
            path.unlink()
        for path in self._kept.iterdir():
            if path.name not in named:
                path.unlink()

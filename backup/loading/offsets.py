"""Where in an archive each table's rows are, written into its head.

pg_dump cannot write that into a pipe. Without it each worker of a parallel pg_restore goes through
all rows in front of those that it wants, and none knows which table is the largest.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from backup.loading.archive import KNOWN, UNKNOWN
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from backup.loading.archive import Archive, Entry

WINDOW = 1 << 22  # bytes that are looked through at once

log = get_logger(__name__)


def write_offsets(archive: Archive, path: Path) -> Archive:
    """Write into the head of the file ``path`` where data is, and return that head.

    pg_restore can do without: if the data is not as expected, the file stays as it is.
    """
    with path.open("r+b", buffering=0) as file:
        try:
            places = _Blocks(archive, file.fileno()).places()
        except ValueError as error:
            log.warning("data of the dump not found, pg_restore will look for it", why=str(error))
            return archive
        known = archive.with_entries(
            replace(entry, place=bytes([KNOWN]) + place.to_bytes(archive.offset_bytes, "little"))
            if (place := places.get(entry.number))
            else entry
            for entry in archive.entries
        )
        file.write(known.head())  # which is no longer than it was
    return known


class _Blocks:
    """The blocks behind an archive's head, in the order of its entries.

    Each begins with its kind and the entry's number. Pieces follow, each behind its length; one of
    no length ends the block.
    """

    def __init__(self, archive: Archive, file: int) -> None:
        self._file = file
        self._start = archive.size
        self._bytes = archive.integer_bytes
        self._end = self._integer(0)
        self._entries = [entry for entry in archive.entries if entry.place[0] == UNKNOWN]

    def places(self) -> dict[int, int]:
        """Return where the block of each entry begins, by the entry's number. Raises ValueError."""
        places: dict[int, int] = {}
        position = self._start
        for number, entry in enumerate(self._entries, 1):
            following = next(iter(self._entries[number : number + 1]), None)
            begin = self._beginning(entry)
            if os.pread(self._file, len(begin), position) != begin:
                raise ValueError(f"no data of {entry.label} at byte {position}")
            places[entry.number] = position
            position += len(begin)
            if entry.kind == "BLOBS":
                position = self._behind_objects(position)
            elif following:
                position = self._behind_rows(position, following)
        return places

    def _integer(self, value: int) -> bytes:
        return b"\0" + value.to_bytes(self._bytes, "little")

    def _beginning(self, entry: Entry) -> bytes:
        return (b"\3" if entry.kind == "BLOBS" else b"\1") + self._integer(entry.number)

    def _behind_rows(self, position: int, following: Entry) -> int:
        """Return where rows end. They are text without a zero, so this cannot be within them."""
        wanted = self._end + self._beginning(following)
        while (window := os.pread(self._file, WINDOW, position)) and len(window) >= len(wanted):
            found = window.find(wanted)
            if found >= 0:
                return position + found + len(self._end)
            position += len(window) - len(wanted) + 1  # it may lie across the border
        raise ValueError(f"no data of {following.label}")

    def _behind_objects(self, position: int) -> int:
        """Return where large objects end, whose bytes may be any: a number and pieces for each."""
        while self._number(position):
            position += len(self._end)
            while length := self._number(position):
                position += len(self._end) + length
            position += len(self._end)
        return position + len(self._end)

    def _number(self, position: int) -> int:
        stored = os.pread(self._file, len(self._end), position)
        if len(stored) < len(self._end):
            raise ValueError(f"large objects end at byte {position}")
        return int.from_bytes(stored[1:], "little")

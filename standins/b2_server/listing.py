"""The pages of b2_list_file_names and b2_list_file_versions, as a pure walk over versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .files import FileVersion


@dataclass(frozen=True)
class Folder:
    """All the names below a prefix that ends with the delimiter, as one entry."""

    name: str


@dataclass(frozen=True)
class Page:
    """One page, and the entry that the next one begins with."""

    entries: list[FileVersion | Folder]
    following: FileVersion | Folder | None


def visible(versions: Iterable[FileVersion]) -> Iterator[FileVersion]:
    """Keep what a name stands for: its newest finished version, unless that hides it."""
    decided = None
    for version in versions:
        if version.action != "start" and version.name != decided:
            decided = version.name
            if version.action == "upload":
                yield version


def page(
    versions: Iterable[FileVersion], *, prefix: str, delimiter: str | None, limit: int
) -> Page:
    """Return the first ``limit`` entries, names below a delimiter folded into folders."""
    entries: list[FileVersion | Folder] = []
    for entry in _folded(versions, prefix, delimiter):
        if len(entries) == limit:
            return Page(entries, entry)
        entries.append(entry)
    return Page(entries, None)


def _folded(
    versions: Iterable[FileVersion], prefix: str, delimiter: str | None
) -> Iterator[FileVersion | Folder]:
    last = None
    for version in versions:
        head, found, _ = version.name[len(prefix) :].partition(delimiter or "\0")
        if not found:
            yield version
        elif (folder := prefix + head + found) != last:
            last = folder
            yield Folder(folder)

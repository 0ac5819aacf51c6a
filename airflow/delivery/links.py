"""Where the symbolic links of a push lead, decided from git's listing: no file is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery.verdict import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from delivery.limits import Entry
    from frame.git import Git

LINK = "120000"
MAX_TARGET = 1024
"""Most bytes of where a link points to."""
MAX_STEPS = 10


class LinkError(ValueError):
    """A link does not lead to a file of the push; the text says where it leads."""


@dataclass(frozen=True)
class Tree:
    """The entries of a push by path, and what its links point to by the id of their object."""

    entries: Mapping[bytes, Entry]
    targets: Mapping[str, bytes]
    folders: frozenset[bytes]

    @classmethod
    def of(cls, entries: Iterable[Entry], targets: Mapping[str, bytes]) -> Tree:
        """Return the tree of ``entries``; ``targets`` is what :func:`targets` returns."""
        by_path = {entry.path: entry for entry in entries}
        folders = {
            path[:at] for path in by_path for at, letter in enumerate(path) if letter == ord("/")
        }
        return cls(by_path, targets, frozenset({b"", *folders}))

    def file(self, entry: Entry) -> Entry:
        """Return the file that is read at ``entry``: itself, or what its links lead to.

        Raises LinkError if that is no file of the push.
        """
        steps = 0
        while entry.mode == LINK:
            steps += 1
            if steps > MAX_STEPS:
                raise LinkError(f"leads through more than {MAX_STEPS} links, or round in a loop")
            entry = self._next(entry)
        return entry

    def _next(self, link: Entry) -> Entry:
        target = self.targets.get(link.object_id, b"")
        shown = clean(target.decode(errors="replace"), MAX_TARGET) or "nothing that can be shown"
        if b"\0" in target or not target:
            raise LinkError(f"leads to no path of at most {MAX_TARGET} bytes: {shown}")
        if target.startswith(b"/"):
            raise LinkError(f"leads to {shown}, which is not in the push")
        place = link.path.split(b"/")[:-1]
        for part in target.split(b"/"):
            # As the kernel walks: what stands before a slash is a folder, or there is no way on.
            if b"/".join(place) not in self.folders:
                raise LinkError(f"leads to {shown}, and there is no such folder on the way")
            if part == b"..":
                if not place:
                    raise LinkError(f"leads to {shown}, which is not in the push")
                place.pop()
            elif part not in (b"", b"."):
                place.append(part)
        path = b"/".join(place)
        if path in self.folders:
            raise LinkError(f"leads to {shown}, a folder: only links to files are taken")
        if path not in self.entries:
            raise LinkError(f"leads to {shown}, which is not in the push")
        return self.entries[path]


def targets(git: Git, entries: Iterable[Entry]) -> dict[str, bytes]:
    """Return what the links among ``entries`` point to by object id, but for those too long."""
    wanted = sorted({e.object_id for e in entries if e.mode == LINK and e.size <= MAX_TARGET})
    if not wanted:
        return {}
    said = git.run("cat-file", "--batch", stdin="".join(f"{i}\n" for i in wanted).encode())
    found = {}
    at = 0
    for object_id in wanted:
        end = said.index(b"\n", at)
        size = int(said[at:end].split()[2])
        found[object_id] = said[end + 1 : end + 1 + size]
        at = end + size + 2
    return found

"""What a push may be made of, decided from git's listing alone: no code, no file is touched."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboards.files import FOLDER, MODELS
from delivery.links import LINK, LinkError, Tree
from delivery.policies import finding
from delivery.verdict import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from delivery.verdict import Finding

PIPELINES, CONTAINERS = BUNDLED = ("pipelines", "containers")
"""The folders whose files the platform makes DAGs of."""
_YAML = re.compile(rb"[^/]+\.yaml")
_UNFOLLOWED = tuple(f"{folder}/".encode() for folder in (FOLDER, MODELS))
_REGULAR = ("100644", "100755", "100664")
MAX_PATH = 250
MAX_DEPTH = 12
LARGEST = 5
"""How many files are named when all are too large together."""


@dataclass(frozen=True)
class Entry:
    """A file of ``git ls-tree -r -l -z``; ``size`` in bytes, 0 for what is no blob."""

    mode: str
    object_id: str
    size: int
    path: bytes


def entries(listing: bytes) -> Iterator[Entry]:
    """Yield the entries of ``git ls-tree -r -l -z --full-tree``, without its folders (``-t``)."""
    for line in listing.split(b"\0"):
        if line:
            about, _, path = line.partition(b"\t")
            mode, kind, object_id, size = about.decode().split()
            if kind != "tree":
                yield Entry(mode, object_id, 0 if size == "-" else int(size), path)


def check(
    found: Sequence[Entry], targets: Mapping[str, bytes], *, max_files: int, max_bytes: int
) -> list[Finding]:
    """Return all that is wrong with the tree; nothing if it may be exported and judged.

    ``targets`` is what its links point to (:func:`delivery.links.targets`).
    """
    if len(found) > max_files:
        return [_crowded(found, max_files)]
    tree = Tree.of(found, targets)
    sizes: dict[bytes, int] = {}
    findings = []
    for entry in found:
        shown = entry.path.decode(errors="replace")
        reason = _mode(entry.mode) or _path(entry.path) or _plain(entry) or _compiled(entry.path)
        if entry.path in sizes or entry.path in tree.folders:
            reason = "the path is there twice"
        sizes[entry.path] = entry.size
        try:
            # Whoever reads all files reads as much again through a link.
            sizes[entry.path] = tree.file(entry).size
        except LinkError as error:
            reason = reason or f"the symbolic link {error}"
        if reason:
            findings.append(finding("tree", shown, reason))
    return findings + _heavy(sizes, max_bytes) + _misplaced(found)


def _crowded(found: Sequence[Entry], most: int) -> Finding:
    """Name the folder with the most files in it."""
    folders = Counter(entry.path.rpartition(b"/")[0] for entry in found)
    folder, files = folders.most_common(1)[0]
    where = folder.decode(errors="replace")
    what = f"{len(found)} files, at most {most} are taken: {files} of them lie here"
    return finding("tree", where, what)


def _heavy(sizes: Mapping[bytes, int], most: int) -> list[Finding]:
    """Name the largest files, until the others are few enough bytes."""
    total = left = sum(sizes.values())
    findings = []
    for path in sorted(sizes, key=lambda each: (-sizes[each], each))[:LARGEST]:
        if left <= most:
            break
        left -= sizes[path]
        what = f"{sizes[path]} bytes of {total} in all, at most {most} are taken"
        findings.append(finding("tree", path.decode(errors="replace"), what))
    return findings


def _mode(mode: str) -> str:
    if mode in _REGULAR or mode == LINK:
        return ""
    if mode == "160000":
        return "submodules are not taken: put the files themselves there"
    return f"mode {mode} is not that of a file"


def _path(raw: bytes) -> str:
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        return "the name is not UTF-8"
    parts = path.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        return "the path may not hold .., . or .git"
    if clean(path, limit=len(path) + 1) != path or "\\" in path:
        return "the name holds control characters or a backslash"
    if len(raw) > MAX_PATH or len(parts) > MAX_DEPTH:
        return f"longer than {MAX_PATH} bytes or deeper than {MAX_DEPTH} folders"
    return ""


def _plain(entry: Entry) -> str:
    """Dashboards are read blob by blob from the mirror, where nothing follows a link."""
    read = entry.path.startswith(_UNFOLLOWED) and entry.path.endswith((b".yaml", b".yml"))
    return (
        "no link is followed here: put the file itself there" if read and entry.mode == LINK else ""
    )


def _compiled(path: bytes) -> str:
    """Python runs such a file where there is no source; in its cache only with its source."""
    compiled = path.endswith((b".pyc", b".pyo")) and b"__pycache__" not in path.split(b"/")
    return "Python without its text, so nobody sees what it does" if compiled else ""


def _misplaced(found: Sequence[Entry]) -> list[Finding]:
    """Files of the platform's bundle that nobody would ever read: better said than left out."""
    findings = []
    for entry in found:
        path = entry.path.decode(errors="replace")
        folder, slash, name = path.partition("/")
        kind = folder.removesuffix("s")
        if not slash or folder not in BUNDLED:
            continue
        if name.endswith(".yml"):
            findings.append(finding(kind, path, f"{kind} files end in .yaml: rename it"))
        elif name.endswith(".yaml") and "/" in name:
            findings.append(finding(kind, path, f"{kind} files lie directly in {folder}/: move it"))
    return findings


def is_bundled(path: bytes) -> bool:
    """Whether ``path`` is one of ``pipelines/*.yaml`` or ``containers/*.yaml``."""
    folder, _, name = path.partition(b"/")
    return folder.decode(errors="replace") in BUNDLED and bool(_YAML.fullmatch(name))


def delivers(entry: Entry) -> bool:
    """Whether ``entry`` may hold a pipeline, a container or a DAG."""
    return is_bundled(entry.path) or entry.path.endswith((b".py", b".zip"))

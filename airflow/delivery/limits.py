"""What a push may be made of, decided from git's listing alone: no code, no file is touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery.verdict import Finding, clean

if TYPE_CHECKING:
    from collections.abc import Iterator

_REGULAR = ("100644", "100755", "100664")
MAX_PATH = 250
MAX_DEPTH = 12


@dataclass(frozen=True)
class Entry:
    """One line of ``git ls-tree -r -l -z``; ``size`` in bytes, 0 for what is no blob."""

    mode: str
    object_id: str
    size: int
    path: bytes


def entries(listing: bytes) -> Iterator[Entry]:
    """Yield the entries of ``git ls-tree -r -l -z --full-tree``."""
    for line in listing.split(b"\0"):
        if line:
            about, _, path = line.partition(b"\t")
            mode, _kind, object_id, size = about.decode().split()
            yield Entry(mode, object_id, 0 if size == "-" else int(size), path)


def check(listing: bytes, *, max_files: int, max_bytes: int) -> list[Finding]:
    """Return what is wrong with the tree; nothing if it may be exported and judged."""
    found = list(entries(listing))
    findings = []
    if len(found) > max_files:
        findings.append(Finding("", f"{len(found)} files, at most {max_files} are taken"))
    total = sum(entry.size for entry in found)
    if total > max_bytes:
        findings.append(Finding("", f"{total} bytes of files, at most {max_bytes} are taken"))
    for entry in found:
        reason = _mode(entry.mode) or _path(entry.path)
        if reason:
            findings.append(Finding.of(entry.path.decode(errors="replace"), reason))
    return findings or _misplaced(found)


def _mode(mode: str) -> str:
    if mode in _REGULAR:
        return ""
    return {
        "120000": "symbolic links are not taken: put the file itself there",
        "160000": "submodules are not taken: put the files themselves there",
    }.get(mode, f"mode {mode} is not that of a file")


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


def _misplaced(found: list[Entry]) -> list[Finding]:
    """Pipeline files that nobody would ever read: better said than silently left out."""
    findings = []
    for entry in found:
        path = entry.path.decode()
        if not path.startswith("pipelines/"):
            continue
        if path.endswith(".yml"):
            findings.append(Finding.of(path, "pipeline files end in .yaml: rename it"))
        elif path.endswith(".yaml") and path.count("/") > 1:
            findings.append(Finding.of(path, "pipeline files lie directly in pipelines/: move it"))
    return findings


def is_pipeline(path: bytes) -> bool:
    """Whether ``path`` is one of ``pipelines/*.yaml``."""
    return path.startswith(b"pipelines/") and path.endswith(b".yaml") and path.count(b"/") == 1

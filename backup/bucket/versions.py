"""What B2 says of the versions of objects, as this program takes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LARGE = "none"  # what B2 tells as the SHA-1 of a large file


@dataclass(frozen=True)
class StoredObject:
    """One version of one object in the bucket; times are in milliseconds since 1970.

    ``hidden`` is when something newer of that name came before it: a mark, or another object.
    ``sha1`` is B2's own, which a large file has not; ``twins`` are the ids of what lost answers had
    uploaded once more.
    """

    name: str
    file_id: str
    size: int
    uploaded: int
    hidden: int | None = None
    sha1: str | None = None
    twins: tuple[str, ...] = ()

    @property
    def uploaded_at(self) -> datetime:
        """When B2 took it, by B2's own clock."""
        return datetime.fromtimestamp(self.uploaded / 1000, UTC)


def first_of_each(versions: Iterable[Any]) -> Iterator[StoredObject]:
    """Yield the oldest upload of each name."""
    names: dict[str, list[Any]] = {}
    for version in versions:
        if version["action"] in ("upload", "hide"):
            names.setdefault(version["fileName"], []).append(version)
    for of_name in names.values():
        uploads = [version for version in of_name if version["action"] == "upload"]
        if uploads:
            first = min(uploads, key=lambda version: int(version["uploadTimestamp"]))
            yield stored(first, of_name)


def stored(version: Any, others: Sequence[Any] = ()) -> StoredObject:
    """Return a version as B2 tells of it; ``others`` of its name may hide it."""
    uploaded = int(version["uploadTimestamp"])
    later = [
        int(other["uploadTimestamp"])
        for other in others
        if int(other["uploadTimestamp"]) > uploaded and not _is_twin(version, other)
    ]
    return StoredObject(
        str(version["fileName"]),
        str(version["fileId"]),
        int(version["contentLength"]),
        uploaded,
        min(later, default=None),
        None if version["contentSha1"] in (None, LARGE) else str(version["contentSha1"]),
        tuple(
            str(other["fileId"])
            for other in others
            if other["fileId"] != version["fileId"] and _is_twin(version, other)
        ),
    )


def _is_twin(version: Any, other: Any) -> bool:
    """Tell whether a lost answer had ``version`` uploaded once more."""
    sha1 = version["contentSha1"]
    return bool(other["action"] == "upload" and other["contentSha1"] == sha1 and sha1 != LARGE)

"""Faults that a test asks for: which calls they meet, and what they do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from .errors import Json, bad_request

if TYPE_CHECKING:
    from collections.abc import Iterable

# Kinds and what each needs beyond an operation.
KINDS: dict[str, tuple[str, ...]] = {
    "status": ("status",),  # answer so, with code, message and Retry-After if set; nothing is done
    "delay": ("seconds",),  # wait before the call
    "close": (),  # close the connection before the body is read
    "close_mid_body": (),  # close it after half of what is sent, in an upload or a download
    "hang": (),  # take the call, and neither read its body nor answer
    "hang_mid_body": (),  # do the call, and stop for ever in the middle of the answer
    "lose_answer": (),  # do the call and close the connection instead of answering
    "empty_answer": (),  # do the call and answer 200 without a body
    "wrong_sha1": (),  # answer with a SHA-1 that the content does not have
    "flip_bit": ("offset",),  # damage the stored file that the call made, or file_id at once
    "truncate": ("length",),  # shorten it so
}
DAMAGES = ("flip_bit", "truncate")
_MAKES_FILES = ("upload_file", "finish_large_file", "copy_file")


@dataclass(frozen=True)
class Fault:
    """One entry of the queue: it lets ``after`` matching calls pass, then meets ``count``.

    ``operation`` is the call's name without ``b2_``, ``download`` for both kinds of download, or
    ``any``. Times are in seconds, offsets and lengths in bytes.
    """

    kind: str
    operation: str = "any"
    count: int = 1
    after: int = 0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after: int | None = None
    seconds: float | None = None
    offset: int | None = None
    length: int | None = None
    file_id: str | None = None

    @classmethod
    def of(cls, entry: Any) -> Fault:
        """Return a fault from JSON; raise if it could never do anything."""
        known = [field.name for field in fields(cls)]
        if not isinstance(entry, dict) or not set(entry) <= set(known):
            raise bad_request(f"a fault must be an object of {', '.join(known)}, not {entry!r}")
        kind = entry.get("kind")
        if kind not in KINDS:
            raise bad_request(f"a fault's kind must be one of {', '.join(KINDS)}, not {kind!r}")
        fault = cls(**entry)
        for name in KINDS[fault.kind]:
            if getattr(fault, name) is None:
                raise bad_request(f"a fault of kind {fault.kind} must set {name}")
        if kind in DAMAGES and fault.file_id is None and fault.operation not in _MAKES_FILES:
            raise bad_request(
                f"{kind} must give file_id, or an operation of {', '.join(_MAKES_FILES)}"
            )
        return fault

    def matches(self, operation: str) -> bool:
        """Return whether the fault is meant for a call."""
        return self.operation in ("any", operation) or (
            self.operation == "download" and operation.startswith("download_file")
        )


@dataclass
class _Queued:
    fault: Fault
    passing: int
    left: int


class Faults:
    """The queue. A call meets the first fault that matches it."""

    def __init__(self) -> None:
        self._queue: list[_Queued] = []

    def set(self, faults: Iterable[Fault]) -> None:
        """Replace the queue."""
        self._queue = [_Queued(fault, fault.after, fault.count) for fault in faults]

    def take(self, operation: str) -> Fault | None:
        """Return the fault that this call meets, and count it."""
        for queued in self._queue:
            if queued.left and queued.fault.matches(operation):
                if queued.passing:
                    queued.passing -= 1
                    continue
                queued.left -= 1
                return queued.fault
        return None

    def left(self) -> list[Json]:
        """Return what has not happened yet."""
        return [
            {"operation": queued.fault.operation, "kind": queued.fault.kind, "left": queued.left}
            for queued in self._queue
            if queued.left
        ]

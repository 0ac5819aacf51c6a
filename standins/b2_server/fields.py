"""The fields of a request's JSON body, checked as they are read."""

from __future__ import annotations

import mimetypes
import re
from typing import TYPE_CHECKING, Any

from .errors import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

# B2's limits on a file's name and on what may be written beside it.
MAX_NAME_BYTES, MAX_SEGMENT_BYTES, MAX_INFO_ENTRIES = 1024, 250, 10
# What B2 takes in one call, and how many parts a large file may have.
MAX_BYTES, MAX_PARTS = 5_000_000_000, 10_000
_INFO_KEY = re.compile(r"[A-Za-z0-9\-_.`~!#$%^&*'|+]{1,50}")
_LOWEST_PRINTABLE, _DELETE = 0x20, 0x7F


class Fields:
    """A JSON object; a field that is absent and one that is null are the same to B2."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = body

    def raw(self, name: str) -> Any:
        """Return the field as it came, or None."""
        return self._body.get(name)

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, str):
            raise bad_request(f"{name} must be a string")
        return value

    def text(self, name: str) -> str:
        """Return a string that must be there."""
        value = self.optional_text(name)
        if value is None:
            raise bad_request(f"required field {name} is missing")
        return value

    def number(self, name: str, *, default: int | None, low: int, high: int) -> int:
        """Return a whole number between ``low`` and ``high``; no default: it must be there."""
        value = self._body.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise bad_request(f"{name} must be a number from {low} to {high}, not {value!r}")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of strings that must be there."""
        value = self._body.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise bad_request(f"{name} must be a list of strings")
        return value

    def info(self, name: str) -> dict[str, str]:
        """Return an object of strings, empty if absent."""
        value = self._body.get(name) or {}
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise bad_request(f"{name} must be an object of strings")
        return value


def checked_name(name: str) -> str:
    """Return a file name that B2 takes."""
    if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        raise bad_request(f"File names must be 1 to {MAX_NAME_BYTES} bytes of UTF-8")
    if any(ord(c) < _LOWEST_PRINTABLE or ord(c) == _DELETE for c in name):
        raise bad_request("File names must not contain control characters")
    if name.startswith("/") or name.endswith("/") or "//" in name:
        raise bad_request("File names must not start or end with '/', nor contain '//'")
    if max(len(segment.encode()) for segment in name.split("/")) > MAX_SEGMENT_BYTES:
        raise bad_request(f"Segments of file names must be at most {MAX_SEGMENT_BYTES} bytes")
    return name


def checked_info(info: Mapping[str, str]) -> dict[str, str]:
    """Return a file's info with its keys in lower case, as B2 keeps them."""
    if len(info) > MAX_INFO_ENTRIES:
        raise bad_request(f"fileInfo must have at most {MAX_INFO_ENTRIES} entries")
    for key in info:
        if not _INFO_KEY.fullmatch(key):
            raise bad_request(f"Bad fileInfo name: {key}")
    return {key.lower(): value for key, value in info.items()}


def checked_type(content_type: str, name: str) -> str:
    """Return a content type; ``b2/x-auto`` asks the server to guess it from the name."""
    if content_type != "b2/x-auto":
        return content_type
    return mimetypes.guess_type(name)[0] or "application/octet-stream"

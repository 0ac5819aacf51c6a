"""The library's loans into the schema load_library."""

from __future__ import annotations

from harmattan.load_sources import service
from harmattan.loads import load

from loads.sources.library import library


def run() -> dict[str, int]:
    """Load what is new; return the rows by table."""
    found = service("library")
    return load(library(found.url, found.token), into="load_library")


if __name__ == "__main__":
    print(run())

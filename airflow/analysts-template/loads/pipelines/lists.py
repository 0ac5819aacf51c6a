"""The lists of loads/files into the schema load_lists."""

from __future__ import annotations

from pathlib import Path

from harmattan.loads import load

from loads.sources.lists import lists

FILES = Path(__file__).resolve().parents[1] / "files"


def run() -> dict[str, int]:
    """Load the lists; return the rows by table."""
    return load(lists(str(FILES)), into="load_lists")


if __name__ == "__main__":
    print(run())

"""The learning platform's quiz attempts into the schema load_moodle."""

from __future__ import annotations

from harmattan.load_sources import mariadb
from harmattan.loads import load

from loads.sources.moodle import moodle


def run() -> dict[str, int]:
    """Load what is new; return the rows by table."""
    return load(moodle(mariadb("moodle")), into="load_moodle")


if __name__ == "__main__":
    print(run())

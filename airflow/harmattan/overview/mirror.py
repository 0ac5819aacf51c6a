"""Reads the gate's report from the DAG mirror, which the web server can only read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery import report
from delivery.bundle import LIVE
from frame.git import fetched, reader

if TYPE_CHECKING:
    from pathlib import Path

    from delivery.report import Report

LISTING_SECONDS = 3.0
FETCH_SECONDS = 10.0


@dataclass(frozen=True)
class Read:
    """A report and the mirror's commit that it was read from."""

    commit: str
    report: Report


def newest(mirror: str, last: Read | None, config: Path | None = None) -> Read:
    """Return the mirror's report: ``last`` itself, if there is no newer one. Raises Failure.

    ``config`` is git's, which may log in.
    """
    url = f"{mirror}/{report.REPOSITORY}.git"
    listed = reader(url, config=config).text(
        "ls-remote", "--exit-code", "--", url, LIVE, seconds=LISTING_SECONDS
    )
    if last is not None and listed.split()[0] == last.commit:
        return last
    with fetched(url, LIVE, seconds=FETCH_SECONDS, most=report.MOST_BYTES, config=config) as (
        git,
        commit,
    ):
        return Read(commit, report.read(git, commit))

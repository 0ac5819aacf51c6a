"""Waiting until jobs are well, and stay so."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import requests

from frame.failure import Failure
from scripts.cluster import NomadError
from scripts.health.observing import health

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.cluster import Nomad
    from scripts.health.rules import Health

LOOK = 2.0  # seconds between two looks: each asks Nomad some fifty things
# Seconds for which all jobs must be well in every look. The slowest check runs every 10 s and takes
# at most 5: all of them have answered again in this time. A task that ended is away for at least
# as long before it is started again, so it is seen to be.
LASTING = 15.0
# Characters of a long reason while it is waited for; the error has all of it. What failed stands at
# its beginning, and the cause at the end of a chain of errors.
BEGINNING, END = 70, 100


@dataclass
class Lasting:
    """Whether all looks of the last ``seconds`` were good."""

    seconds: float
    since: float | None = None

    def add(self, now: float, *, well: bool) -> bool:
        """Add a look of the time ``now``; return whether it has lasted. A bad look starts over."""
        if not well:
            self.since = None
        elif self.since is None:
            self.since = now
        return self.since is not None and now - self.since >= self.seconds


def wait(
    client: Nomad,
    job_ids: Sequence[str],
    *,
    timeout: float = 600,
    lasting: float = LASTING,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Wait until every job has been well for ``lasting`` seconds.

    All of them become well within ``timeout`` seconds, and are looked at to the end: one that is
    no longer well is waited for again. Of a periodic job it is enough that it is there: how its
    last launch ended is for `make status`. ``say`` gets, after each look, what is waited for.
    Raises :class:`Failure` that names each job that is not well, and why.
    """
    started = time.monotonic()
    good = Lasting(lasting)
    while True:
        unwell = _unwell(client, job_ids)
        now = time.monotonic()
        if good.add(now, well=not unwell):
            return
        if any(each.failed for each in unwell) or (unwell and now - started >= timeout):
            raise Failure(
                f"not every job is well after {now - started:.0f} s:\n"
                + "\n".join(f"  {each}" for each in unwell),
                f"Ask Nomad for more: nomad job status {unwell[0].id}",
            )
        say(_waited_for(unwell, len(job_ids)))
        time.sleep(LOOK)


def _unwell(client: Nomad, job_ids: Sequence[str]) -> list[Health]:
    try:
        states = [health(client, job_id) for job_id in job_ids]
    except (NomadError, requests.RequestException) as error:
        raise Failure(
            f"Nomad did not say how its jobs are: {error}",
            "Check NOMAD_ADDR and the rights of NOMAD_TOKEN, and deploy again.",
        ) from None
    return [state for state in states if not (state.well or state.deployed)]


def _waited_for(unwell: Sequence[Health], jobs: int) -> str:
    if not unwell:
        return f"all {jobs} jobs are well; that it lasts is looked at"
    states = [f"    {replace(each, reason=brief(each.reason))}" for each in unwell]
    return "\n".join([f"{len(unwell)} of {jobs} jobs are not well:", *states])


def brief(reason: str) -> str:
    """Return both ends of a reason that is long."""
    if len(reason) <= BEGINNING + END:
        return reason
    return f"{reason[:BEGINNING]}…{reason[-END:]}"

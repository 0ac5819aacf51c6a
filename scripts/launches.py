"""Launches of jobs by hand: periodic ones forced, parameterised ones dispatched."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import requests
import tenacity

from frame.failure import Failure
from scripts.cluster import NomadError
from scripts.health.allocations import failed_tasks
from scripts.health.observing import last_lines
from scripts.health.placement import fits_nowhere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripts.access import Access


FORCES = 3
APPEARS = 10  # seconds; a busy server makes the job within one


@contextmanager
def _asked() -> Iterator[None]:
    """Say of a Nomad that refuses or is not there what to look at."""
    try:
        yield
    except (NomadError, requests.RequestException) as error:
        raise Failure(
            f"Nomad did not take the launch of a job: {error}",
            "Check NOMAD_ADDR and the rights of NOMAD_TOKEN, and that the jobs are deployed.",
        ) from None


@_asked()
def force(platform: Access, job_id: str) -> str:
    """Start a periodic job now and return the id of the job that Nomad made for it.

    A launch is named by its second: one that meets the schedule's own makes no new job, and is
    asked for again.
    """
    before = set(children(platform, job_id))
    made: list[str] = []

    def appeared() -> bool:
        made[:] = sorted(set(children(platform, job_id)) - before)
        return bool(made)

    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(Failure),
        stop=tenacity.stop_after_attempt(FORCES),
        reraise=True,
    ):
        with attempt:
            platform.nomad.job.periodic_job(job_id)
            wait_until(appeared, f"a launch of {job_id}", APPEARS)
    return made[-1]


@_asked()
def dispatch(platform: Access, job_id: str, meta: dict[str, str]) -> str:
    """Start a job that waits for that, and return the id of the job that Nomad made for it."""
    return str(platform.nomad.job.dispatch_job(job_id, meta=meta)["DispatchedJobID"])


def children(platform: Access, job_id: str) -> Iterator[str]:
    """Yield the ids of a periodic job's launches that Nomad still knows."""
    for found in platform.nomad.jobs.get_jobs(prefix=f"{job_id}/periodic-"):
        yield found["ID"]


@_asked()
def finish(platform: Access, child: str, *, timeout: float) -> None:
    """Wait until one launch of a job ended; raises :class:`Failure` if it failed."""

    def states() -> list[str]:
        return [each["ClientStatus"] for each in platform.nomad.job.get_allocations(child)]

    def has_ended() -> bool:
        if seen := states():
            return not {"pending", "running"} & set(seen)
        if reason := fits_nowhere(platform.nomad.job.get_evaluations(child)):
            raise Failure(
                f"{child} cannot be placed: {reason}",
                "Give a node what it asks for, such as a host volume, and launch it again.",
            )
        return False

    wait_until(has_ended, child, timeout)
    if "complete" not in states():
        said = "".join(f"\n  {line}" for line in _last_words(platform, child))
        raise Failure(f"{child} failed{said}", f"Read its log: nomad alloc logs -job {child}")


def _last_words(platform: Access, child: str) -> list[str]:
    """Return the lines that the failed tasks of a launch wrote last, none if its node has none."""
    lines = []
    for allocation in platform.nomad.job.get_allocations(child):
        for task in failed_tasks([allocation]):
            lines += last_lines(platform.nomad, allocation["ID"], task)
    return lines


def wait_until(done: Callable[[], bool], what: str, timeout: float) -> None:
    """Ask every second whether it is ``done``, for ``timeout`` seconds at most.

    Raises :class:`Failure`, which names ``what`` was waited for.
    """
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise Failure(
                f"waited {timeout:.0f} s in vain for {what}", "Ask `make status` what is not well."
            )
        time.sleep(1)

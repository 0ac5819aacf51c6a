"""Follows a run of a job: its log's lines as they come, and how it ends."""

from __future__ import annotations

import logging
import time
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any

from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.xcom import XCom
from pydantic import BaseModel, ConfigDict, Field

from harmattan.runs import verdict
from harmattan.runs.errors import PassingError
from harmattan.runs.lines import LONGEST, Lines, summary

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from harmattan.runs.client import Nomad
    from harmattan.runs.trigger import Try
    from harmattan.runs.verdict import Verdict

# Seconds between two looks at the log; the run's end is reported at once.
LOOK = 1.0
# Seconds after which a run without an allocation says why.
PLACING = 10.0
# Bytes of a log that Nomad can be asked to pass over, and streams of one run's allocations: bounds
# of what is believed of an earlier triggerer.
LARGEST = 2**62
MOST_STREAMS = 1000
# Pieces of a log that are read before the job is asked again whether it has ended.
_PIECES = 8
STREAMS = ("stdout", "stderr")
log = logging.getLogger(__name__)

# What every task goes through.
_USUAL = {"Received", "Task Setup", "Started", "Terminated", "Killed", "Downloading Artifacts"}


class _Text(BaseXCom):
    """XComs as they are stored: Airflow's own reading makes objects of classes that they name."""

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Return the value's plain JSON."""
        return result.value


class _Kept(BaseModel):
    """What :class:`Progress` keeps: ``taken`` counts bytes, by allocation and stream.

    Any task may write any XCom, so this may be anybody's.
    """

    model_config = ConfigDict(strict=True)

    of: str = Field(alias="try")
    taken: dict[str, Annotated[int, Field(ge=0, le=LARGEST)]] = Field(max_length=MOST_STREAMS)


def read_kept(value: object, try_id: str) -> dict[str, int]:
    """Return the bytes that are taken of each stream, as far as ``value`` is what that try kept."""
    try:
        kept = _Kept.model_validate(value)
    except ValueError:
        return {}
    return kept.taken if kept.of == try_id else {}


class Progress:
    """How far the log of one try is read, kept where the next triggerer finds it.

    What is kept decides which lines are shown, and nothing else: where it cannot be read or
    written, or is not ours, lines are shown twice.
    """

    def __init__(self, of: Try) -> None:
        self._id = of.id
        names = ("dag_id", "task_id", "run_id", "map_index")
        self._key = {"key": "log_read", **{name: getattr(of, name) for name in names}}
        self._taken: dict[str, int] = {}
        self._earlier: dict[str, int] = {}
        self._kept: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        """Return how many bytes of a stream are read; from then on it is among what is kept."""
        return self._taken.setdefault(name, self._earlier.get(name, 0))

    def __setitem__(self, name: str, taken: int) -> None:
        """Note that so many bytes of a stream are read."""
        self._taken[name] = taken

    async def load(self) -> None:
        """Take up what an earlier triggerer kept of this try, if one did."""
        try:
            self._earlier = read_kept(await _Text.aget_one(**self._key), self._id)
        except AirflowRuntimeError as error:
            log.warning("how far the log is read cannot be read now: %s", error.error.error.value)

    async def keep(self) -> None:
        """Keep it, if it has grown."""
        if self._taken == self._kept:
            return
        try:
            await XCom.aset(**self._key, value={"try": self._id, "taken": self._taken})
        except AirflowRuntimeError as error:  # the next look keeps more
            log.warning("how far the log is read cannot be kept now: %s", error.error.error.value)
        else:
            self._kept = dict(self._taken)


class Follower:
    """Reads what a run of ``child`` writes and reports it to ``log``."""

    def __init__(self, nomad: Nomad, child: str, progress: Progress, log: Logger) -> None:
        self._nomad, self._child, self._progress, self._log = nomad, child, progress, log
        self._lines: dict[str, Lines] = {}
        self._events: dict[str, int] = {}  # the time of the last one that is reported
        self._unreachable: set[str] = set()
        self._since: float | None = time.monotonic()  # None once it has a place or said why not

    async def follow(self) -> tuple[Verdict, dict[str, Any] | None]:
        """Return how the run ended, and the JSON object that its output ends with, if it has one.

        Raises PassingError when Nomad cannot be asked or does not know the run.
        """
        index = 0
        while True:
            job = await self._nomad.job(self._child, index=index, wait=LOOK)
            if job is None:
                raise PassingError(
                    f"run {self._child}: expected it at Nomad, found none",
                    "Somebody removed it, or it ended hours ago; the source's own record of runs"
                    " may say how.",
                )
            index = job["ModifyIndex"]
            allocations = await self._nomad.allocations(self._child)
            task = verdict.main_task(job)
            for allocation in allocations:
                await self._report(allocation, task, _PIECES if job["Status"] != "dead" else None)
            ended = verdict.read(job, allocations)
            if ended is not None:
                for lines in self._lines.values():
                    self._show(lines.end())
                return ended, await self._summary(allocations, task)
            await self._progress.keep()
            await self._explain(allocations)

    async def _report(self, allocation: dict[str, Any], task: str, pieces: int | None) -> None:
        """Report what is new of an allocation: events out of the usual, lines of its log.

        Of each stream it reads as many ``pieces``, or all that there is.
        """
        self._report_events(allocation, task)
        if not verdict.state_of(allocation, task).get("StartedAt"):
            return
        for stream in STREAMS:
            name = f"{allocation['ID']}/{stream}"
            lines = self._lines.setdefault(name, Lines(self._progress[name]))
            for _ in range(pieces) if pieces else count():
                piece = await self._log_of(allocation["ID"], task, stream, lines.offset)
                if not piece:
                    break
                self._show(lines.feed(piece))
                self._progress[name] = lines.taken

    def _report_events(self, allocation: dict[str, Any], task: str) -> None:
        events = verdict.state_of(allocation, task).get("Events") or ()
        seen = self._events.get(allocation["ID"])
        if seen is None:
            self._log.info("%s runs on node %s", self._child, allocation["NodeName"])
        for event in events:
            if event["Time"] > (seen or 0) and event["Type"] not in _USUAL:
                self._log.warning("Nomad: %s: %s", event["Type"], event["DisplayMessage"])
        self._events[allocation["ID"]] = max((event["Time"] for event in events), default=0)

    def _show(self, lines: list[str]) -> None:
        for line in lines:
            self._log.info("%s", line)

    async def _explain(self, allocations: list[dict[str, Any]]) -> None:
        """Say once why a run that has no allocation has none."""
        if allocations:
            self._since = None
        if self._since is not None and time.monotonic() - self._since > PLACING:
            self._since = None
            why = ", ".join(await self._nomad.obstacles(self._child)) or "not said"
            self._log.warning("Nomad has no place for %s yet: %s", self._child, why)

    async def _summary(self, allocations: list[dict[str, Any]], task: str) -> dict[str, Any] | None:
        if not allocations:
            return None
        tail = await self._log_of(allocations[-1]["ID"], task, "stdout", -4 * LONGEST)
        return summary(tail)

    async def _log_of(self, allocation: str, task: str, stream: str, offset: int) -> bytes:
        """Return a piece of a log; nothing, from then on, of one whose node cannot be reached."""
        if allocation in self._unreachable:
            return b""
        try:
            return await self._nomad.log(allocation, task, stream, offset)
        except PassingError as error:
            self._unreachable.add(allocation)
            self._log.warning(
                "the rest of the log of %s is not shown: %s\nHINT: Its node may still have it: see"
                " `nomad alloc logs %s`.", self._child, error.message, allocation,
            )  # fmt: skip
            return b""

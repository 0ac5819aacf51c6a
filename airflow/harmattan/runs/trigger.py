"""Runs a parameterised job of Nomad from the triggerer: dispatches, follows and stops it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Connection
from airflow.triggers.base import BaseTrigger, TriggerEvent

from frame.failure import Failure
from harmattan.runs.client import Access, Nomad
from harmattan.runs.end import End
from harmattan.runs.errors import LastingError, PassingError
from harmattan.runs.follow import Follower, Progress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from harmattan.runs.end import Kind

# The operator lets Airflow wait longer than it says, so that a task whose time is over ends here:
# Airflow's own end of it needs a worker, and stops nothing.
GRACE = timedelta(minutes=1)
# Seconds in which the earlier tries' children, which were told to stop, must have ended.
_STOPPING = 300.0
# The same for a run whose task was cleared.
_KILLING = 20.0
# asyncio itself keeps no task alive.
_going_on: set[asyncio.Task[None]] = set()


@dataclass(frozen=True)
class Try:
    """One try of a task.

    ``id`` is Airflow's own: another one for each try, and after a run that was deleted and made
    again.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    id: str

    @classmethod
    def of(cls, ti: Any) -> Try:
        """Return the try that a task instance of any of Airflow's kinds is."""
        task = ti.dag_id, ti.run_id, ti.task_id, ti.map_index
        return cls(*task, ti.try_number, str(ti.id))

    @property
    def prefix(self) -> str:
        """What the ids of the task's runs at Nomad have in common."""
        return _digest([self.dag_id, self.run_id, self.task_id, self.map_index])[:16]

    @property
    def key(self) -> str:
        """What Nomad knows a dispatch of this try by."""
        return _digest(list(astuple(self)))


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``, which goes on when this is cancelled.

    Airflow cancels a trigger, and so its ``on_kill``, again at each of its looks.
    """
    task = asyncio.create_task(work)
    _going_on.add(task)
    task.add_done_callback(_going_on.discard)
    await asyncio.shield(task)


def _digest(words: list[Any]) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


class NomadJobTrigger(BaseTrigger):
    """Runs ``job`` with ``meta`` and yields one event, the data of an :class:`End`.

    Begun again after its triggerer was lost, it finds the run that it began. ``of_try`` has the
    fields of the :class:`Try`, where it is not the triggerer that says whose trigger this is.
    """

    def __init__(
        self, job: str, meta: dict[str, str], connection_id: str,
        of_try: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.job, self.meta, self.connection_id, self.of_try = job, meta, connection_id, of_try
        self.timeout_after: datetime | None = None  # set by the triggerer

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger again."""
        names = ("job", "meta", "connection_id", "of_try")
        kwargs = {name: getattr(self, name) for name in names}
        return f"{type(self).__module__}.{type(self).__qualname__}", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Run the job to its end, or to the task's."""
        try:
            async with asyncio.timeout(self._seconds()):
                end = await self._end()
        except TimeoutError:
            await _to_its_end(self._stop(seconds=0))
            end = End(
                "passing",
                f"{self._what}: expected it to end before the task's time was over; it was stopped",
                "Look at what it waits for, or give it more time.",
            )
        except asyncio.CancelledError:
            # The task has been overdue for long, while no triggerer was there: Airflow, which has
            # just failed it, calls no on_kill then.
            if self._seconds() == 0:
                await _to_its_end(self._stop(seconds=0))
            raise
        if end.kind != "done":
            self.log.error("%s\nHINT: %s", end.message, end.hint)
        yield TriggerEvent(end.data())

    async def on_kill(self) -> None:
        """Stop the run: somebody cleared the task, or marked it."""
        await _to_its_end(self._stop(seconds=_KILLING))

    async def _end(self) -> End:
        try:
            async with self._nomad() as nomad:
                child, new = await self._begin(nomad)
                progress = Progress(self._try)
                if not new:
                    self.log.info("%s is followed from here on", child)
                    await progress.load()
                verdict, summary = await Follower(nomad, child, progress, self.log).follow()
        except Failure as failure:
            kind: Kind = "lasting" if isinstance(failure, LastingError) else "passing"
            return End(kind, failure.message, failure.hint)
        except Exception as error:
            self.log.exception("a fault of this trigger")
            return End("passing", f"{self._what}: {type(error).__name__}: {error}",
                       "Report it, with the lines above.")  # fmt: skip
        if verdict.kind == "done":
            return End("done", summary=summary)
        return End(
            verdict.kind,
            f"{self._what}: expected {child} to end with 0, found that it {verdict.reason}",
            "Its log, above, says why.",
            summary,
        )

    async def _begin(self, nomad: Nomad) -> tuple[str, bool]:
        """Return the run of this try, and whether it is new; no run of earlier tries is left."""
        if left := await self._stop_runs(nomad, own=False, seconds=_STOPPING):
            raise PassingError(
                f"{self._what}: expected the runs of earlier tries to end when they were stopped,"
                f" found {', '.join(left)}",
                "Look at it with `nomad job status`.",
            )
        meta = {name: value for name, value in self.meta.items() if value}
        return await nomad.dispatch(self.job, meta, key=self._try.key, prefix=self._try.prefix)

    async def _stop(self, *, seconds: float) -> None:
        """Stop this try's run, and wait up to ``seconds`` until it has ended.

        A task that was cleared may have its next try's run already: that is none of this one's.
        """
        try:
            async with self._nomad() as nomad:
                left = await self._stop_runs(nomad, own=True, seconds=seconds)
        except Failure as failure:  # the task's next try stops it
            self.log.error("%s\nHINT: %s", failure.message, failure.hint)
        else:
            if left and seconds:
                self.log.warning("%s has been stopped and has not ended yet", ", ".join(left))

    async def _stop_runs(self, nomad: Nomad, *, own: bool, seconds: float) -> list[str]:
        """Stop this try's run, or those of the task's other tries; return what has not ended."""
        until, told = time.monotonic() + seconds, set[str]()
        while True:
            left = []
            for child in await nomad.unfinished(self.job, self._try.prefix):
                job = await nomad.job(child) or {}
                if (job.get("DispatchIdempotencyToken") == self._try.key) != own:
                    continue
                left.append(child)
                if child not in told:
                    self.log.warning("stopping %s", child)
                    await nomad.stop(child)
                    told.add(child)
            if not left or time.monotonic() > until:
                return left
            await asyncio.sleep(1)

    def _nomad(self) -> Nomad:
        return Nomad(self._access)

    async def _access(self) -> Access:
        connection = await Connection.async_get(self.connection_id)
        extra = connection.extra_dejson
        return Access(
            f"{connection.schema}://{connection.host}:{connection.port}",
            extra["namespace"], connection.password, extra.get("ca"),
        )  # fmt: skip

    @property
    def _try(self) -> Try:
        return Try(**self.of_try) if self.of_try else Try.of(self.task_instance)

    @property
    def _what(self) -> str:
        return f"job {self.job}"

    def _seconds(self) -> float | None:
        """Return the seconds until the task's time is over, None if it has no limit."""
        if self.timeout_after is None:
            return None
        left = self.timeout_after.astimezone(UTC) - GRACE - datetime.now(UTC)
        return max(left.total_seconds(), 0)

"""A task that runs a parameterised job of Nomad: Airflow asks, Nomad runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import StartTriggerArgs

from harmattan.runs.connection import CONNECTION
from harmattan.runs.end import End
from harmattan.runs.errors import PassingError
from harmattan.runs.trigger import GRACE, NomadJobTrigger, Try

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context


class NomadJobOperator(BaseOperator):
    """Runs ``job``, a parameterised batch job, with ``meta``, and returns its summary.

    The whole task runs in the triggerer, and takes no slot of a worker or pool. Its log has the
    lines of the job's main task. What ends with 0 is done; with 1 (a lasting fault) or 2 (wrong
    use), or was stopped in Nomad, fails at once; all else is tried again as ``retries`` says, 75
    by its own wish. Whoever clears or marks the task stops the run, and so does the end of
    ``execution_timeout``.

    The last line of the job's output that is a JSON object, of at most 16 KiB, is the summary. If
    it has an object ``assets``, by names of ``outlets`` or below them (``raw_hr.staff`` is below
    ``raw_hr``), those get an event with what it says as ``extra``, and the other outlets none.

    The values of ``meta`` are templates; one that is empty is not sent.
    """

    template_fields: Sequence[str] = ("meta",)
    start_from_trigger = True

    def __init__(
        self, *, job: str, meta: Mapping[str, str] | None = None,
        connection_id: str = CONNECTION, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.job, self.meta, self.connection_id = job, dict(meta or {}), connection_id
        if self.execution_timeout:
            self.execution_timeout += GRACE
        classpath, trigger_kwargs = self._trigger().serialize()
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=classpath, trigger_kwargs=trigger_kwargs, next_method="execute_complete"
        )

    def execute(self, context: Context) -> NoReturn:
        """Hand the task over to the triggerer, where the scheduler did not: ``dag.test()``."""
        trigger = self._trigger(asdict(Try.of(context["ti"])))
        self.defer(trigger=trigger, method_name="execute_complete",
                   timeout=self.execution_timeout)  # fmt: skip

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any] | None:
        """End the task in a worker, where no triggerer of :mod:`harmattan.runs.ending` does."""
        end = End.read(event)
        if end.kind == "lasting":
            raise AirflowFailException(f"{end.message}\nHINT: {end.hint}")
        if end.kind == "passing":
            raise PassingError(end.message, end.hint)
        changed = end.changed(each.name for each in self.outlets)
        self.outlets = [each for each in self.outlets if each.name in changed]
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra = changed[outlet.name]
        return end.summary

    def _trigger(self, of_try: dict[str, Any] | None = None) -> NomadJobTrigger:
        return NomadJobTrigger(self.job, self.meta, self.connection_id, of_try)

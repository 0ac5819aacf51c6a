"""What came of a run, as its process knows it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.errors import CheckFailedError, RunFailedError, passes

if TYPE_CHECKING:
    from frame.failure import Failure
    from ingest.release import Loaded

log = logging.getLogger(__name__)


@dataclass
class Report:
    """What a run published so far, and which tables failed with what, in which step.

    ``earlier`` are the rows of tables that an earlier try of the run published.
    """

    pipeline: str
    run_id: str
    earlier: dict[str, int] = field(default_factory=dict)
    loaded: list[Loaded] = field(default_factory=list)
    failed: dict[str, Failure] = field(default_factory=dict)
    step: str | None = None  # in which the first of them failed

    def passes(self, error: Failure | None = None) -> bool:
        """Return whether another try may do for some table, or for the ``error`` of the whole."""
        whole = [] if error is None else [error]
        return any(map(passes, (*self.failed.values(), *whole)))

    def fail(self, step: str, table: str, error: Failure) -> None:
        """Note that ``table`` failed in ``step``."""
        self.failed[table] = error
        self.step = self.step or step
        log.error("not published: %s", error.message)

    def check(self) -> None:
        """Raise RunFailedError, or CheckFailedError, that names all tables that failed."""
        if not self.failed:
            return
        errors = list(self.failed.values())
        whole = len(self.failed) + len(self.loaded)
        hints = {error.hint for error in errors}
        alone = len(hints) == 1
        faults = "\n".join(
            error.message if alone else f"{error.message}\n  {error.hint}" for error in errors
        )
        kind = CheckFailedError if isinstance(errors[0], CheckFailedError) else RunFailedError
        raise kind(
            f"pipeline {self.pipeline}: expected {whole} tables published,"
            f" found {len(self.failed)} not:\n{faults}",
            hint=hints.pop() if alone else "Each has its way out above; then run again.",
        ) from errors[0]

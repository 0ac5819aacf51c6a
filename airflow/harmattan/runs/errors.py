"""Why a run of a job failed, and whether another try may do."""

from __future__ import annotations

from frame.failure import Failure


class PassingError(Failure):
    """Another try, a little later, may do: a server was away, a process was killed."""


class LastingError(Failure):
    """Trying again does not mend it: Airflow fails the task at once."""

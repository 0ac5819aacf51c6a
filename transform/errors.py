"""What goes wrong with models."""

from __future__ import annotations

from frame.failure import Failure


class BuildError(Failure):
    """dbt did not get as far as results: the project is broken, or it ran out of time."""


class UnpublishedError(Failure):
    """A sound mart could not be put in front of readers, who keep the one they have."""


class UnsoundError(Failure):
    """Marts failed, or tests of theirs did: readers keep the ones they have.

    ``may_pass``: a model could not be built, which trying again may mend; a test fails again.
    """

    def __init__(self, message: str, hint: str, *, may_pass: bool) -> None:
        super().__init__(message, hint)
        self.may_pass = may_pass

"""What can go wrong; every message says what was found, and then how to go on."""

from __future__ import annotations


class SchoolError(Exception):
    """The generator cannot do what was asked; the database is as it was."""


class OccupiedError(SchoolError):
    """The database holds something else already, and was left alone."""

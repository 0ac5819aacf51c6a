"""Superset inside a command of ours: the same settings and database as the service."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from superset.app import create_app

from frame import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask


CONFIG = Path(__file__).with_name("superset_config.py")


@contextmanager
def superset() -> Iterator[Flask]:
    """Run the block in Superset's application context; `SUPERSET_CONFIG_PATH` names its settings.

    It sets `logging` up in its own way, which is undone: a command has the log of the house.
    """
    application = create_app()
    log.configure()
    logging.getLogger("superset").setLevel(logging.WARNING)
    with application.app_context():
        yield application

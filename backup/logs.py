"""Logs on stderr: JSON for the log shipper, plain text on a terminal."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs() -> None:
    """Send this program's events to stderr and silence the libraries.

    b2sdk's debug log shows authorisation tokens and urllib3's shows URLs that hold them, so neither
    may reach a handler, whatever the environment asks for.
    """
    for library in ("b2sdk", "urllib3"):
        logging.getLogger(library).propagate = False
        logging.getLogger(library).setLevel(logging.CRITICAL)
    on_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )

"""The log of every command: lines of text on standard error, or of JSON with ``--json``."""

from __future__ import annotations

import logging
import sys
from functools import cache
from typing import TYPE_CHECKING, cast

from frame.failure import without_passwords
from frame.output import colours, wants_json

if TYPE_CHECKING:
    import structlog

OWN = ("backup", "frame", "delivery", "ingest", "scripts")
# b2sdk's log shows authorisation tokens, urllib3's and httpx's show URLs that hold them: nothing of
# them may reach a handler, whatever the environment asks for.
SILENT = ("b2sdk", "httpx", "urllib3")


def configure() -> None:
    """Send this program's events to standard error, and only warnings of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OWN:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in SILENT:
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]  # without one, `logging` has a last resort


def prepare() -> None:
    """Load what the first line needs, a tenth of a second, when there is time for it."""
    _formatter(as_json=wants_json())


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return structlog's logger ``name``: an event and its facts, by the handlers of `logging`.

    It carries its own processors, as inside Airflow structlog's configuration is Airflow's.
    """
    import structlog

    logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return cast("structlog.stdlib.BoundLogger", logger)


class _Lines(logging.Formatter):
    """Formats with structlog, which is loaded at the first line: many a command writes none."""

    def format(self, record: logging.LogRecord) -> str:
        return without_passwords(_formatter(as_json=wants_json()).format(record))


@cache
def _formatter(*, as_json: bool) -> logging.Formatter:
    import structlog

    common: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    ]
    renderer: structlog.typing.Processor
    if as_json:
        common.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=colours(),
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,
        )
    return structlog.stdlib.ProcessorFormatter(
        processors=[*common, renderer],
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
    )

"""DAGs that the analysts' ``environments.toml`` switches off here: kept, and not scheduled.

A DAG that is paused or gone has its runs stand still. One without a schedule ends those that
have begun, and begins none by itself.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from frame import switches

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

ENVIRONMENT = "DAG_ENVIRONMENT"
TAG = "off"
_NEVER = {"__type": "airflow.timetables.simple.NullTimetable", "__var": {}}


def patterns(bundle: Path) -> dict[str, list[str]]:
    """Return what is off where, by the file of a ``bundle``: nothing if it has none.

    The gate has read it already; one that cannot be read all the same switches nothing off.
    """
    try:
        return switches.read((bundle / switches.FILE).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, switches.SwitchesError) as error:
        log.warning("%s switches nothing off: %s", switches.FILE, error)
        return {}


def switch_off(data: dict[str, Any], switched: dict[str, list[str]]) -> None:
    """Take its schedule from a serialised DAG that is off in this environment, and tag it."""
    environment = os.environ.get(ENVIRONMENT, "")
    if switches.is_off(data["dag_id"], environment, switched):
        data["timetable"] = dict(_NEVER)
        data["tags"] = sorted({*data.get("tags", ()), TAG})

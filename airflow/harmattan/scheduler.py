"""The scheduler, which posts failed runs to a webhook where the platform names one.

``python -m harmattan.scheduler`` runs ``airflow scheduler`` with the arguments given. The URL is
read from the file that ``FAILURE_WEBHOOK_FILE`` names (:mod:`harmattan.run_alerts`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from airflow.listeners.listener import get_listener_manager

from harmattan.run_alerts import RunAlerts

FILE = "FAILURE_WEBHOOK_FILE"


def main() -> None:
    """Run ``airflow scheduler``."""
    from airflow.__main__ import main as airflow

    if file := os.environ.get(FILE):
        get_listener_manager().add_listener(RunAlerts(Path(file)))
    sys.argv = ["airflow", "scheduler", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()

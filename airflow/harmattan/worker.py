"""``python -m harmattan.worker FILE …``: a Celery worker that touches FILE while it is alive.

The arguments after FILE are those of ``airflow celery worker``. Celery's own ping needs a remote
control channel through Redis, which no pool's Redis user has.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from celery import bootsteps

# Seconds between two signs of life; harmattan.health takes 30 s without one for a fault.
INTERVAL = 5.0


class Heartbeat(bootsteps.StartStopStep):
    """Touches :attr:`path` from the event loop that also takes tasks from the queue."""

    requires: ClassVar[set[str]] = {"celery.worker.components:Timer"}
    path: ClassVar[Path]

    def start(self, parent: Any) -> None:
        """Touch now and from then on every :data:`INTERVAL` seconds."""
        self.path.touch()
        self.timer = parent.timer.call_repeatedly(INTERVAL, self.path.touch)

    def stop(self, parent: Any) -> None:
        """Stop touching."""
        self.timer.cancel()


def main() -> None:
    """Add the heartbeat to Airflow's Celery application and run its worker."""
    from airflow.__main__ import main as airflow
    from airflow.providers.celery.executors.celery_executor_utils import app

    Heartbeat.path = Path(sys.argv[1])
    app.steps["worker"].add(Heartbeat)
    sys.argv = [
        "airflow", "celery", "worker", *sys.argv[2:],
        "--without-gossip", "--without-mingle", "--skip-serve-logs",
    ]  # fmt: skip
    airflow()


if __name__ == "__main__":
    main()

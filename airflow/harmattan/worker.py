"""``python -m harmattan.worker FILE QUEUE …``: a Celery worker that touches FILE while it is alive.

It serves QUEUE; the arguments after that are those of ``airflow celery worker``. At the broker it
takes tasks from that queue, which is all that its user may do there: it declares nothing, and sends
neither events nor acknowledgements (``[celery_broker_transport_options]``).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from celery import bootsteps
from kombu.entity import Queue

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
    """Prepare Airflow's Celery application and run its worker."""
    from airflow.__main__ import main as airflow
    from airflow.providers.celery.executors.celery_executor_utils import app

    Heartbeat.path, queue = Path(sys.argv[1]), sys.argv[2]
    app.steps["worker"].add(Heartbeat)
    app.conf.task_queues = [Queue(queue, no_declare=True)]
    run = app.worker_main
    # Airflow's command has no option for this one of Celery's.
    app.worker_main = lambda options: run([*options, "--without-heartbeat"])
    sys.argv = [
        "airflow", "celery", "worker", "--queues", queue, *sys.argv[3:],
        "--without-gossip", "--without-mingle", "--skip-serve-logs",
        "--pid", str(Heartbeat.path.with_suffix(".pid")),
    ]  # fmt: skip
    airflow()


if __name__ == "__main__":
    main()

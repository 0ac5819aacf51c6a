"""Under which name Airflow's processes are known to each other."""

from __future__ import annotations

import os


def node() -> str:
    """Return the address of this node, where its log server serves what this process writes.

    Airflow asks for it as ``[core] hostname_callable``; the job files set ``HARMATTAN_NODE``.
    """
    return os.environ["HARMATTAN_NODE"]

"""The DAG processor, whose parsing children cannot read its secrets.

Airflow forks a child for every file, with the parent's memory - the database URI in it - and the
parent's user. Here the child gives up its privileges and becomes a fresh interpreter of another
user before any DAG code is imported; it keeps the three sockets to its parent and nothing else.
Run as root with the capabilities SETUID, SETGID and KILL only: ``python -m harmattan.dag_processor
--bundle-name NAME``.
"""

from __future__ import annotations

import os
import sys
from socket import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# The user `stranger` of airflow/Dockerfile.
STRANGER = 50009


def child_environment(parent: Mapping[str, str]) -> dict[str, str]:
    """Return what a parsing child gets of its parent's environment: no way to a secret."""
    kept = {
        name: value
        for name, value in parent.items()
        if not name.endswith(("_CMD", "_SECRET")) and not name.startswith("NOMAD_")
    }
    # Airflow wants an engine while it is imported; _fork_main then forbids its use altogether.
    kept["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "sqlite://"
    kept["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    kept["HOME"] = "/home/stranger"
    return kept


def become_stranger() -> None:
    """Replace this forked process by :func:`child` in a new interpreter of another user."""
    os.setgroups([])
    os.setresgid(STRANGER, STRANGER, STRANGER)
    os.setresuid(STRANGER, STRANGER, STRANGER)
    os.closerange(3, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") > 0 else 4096)
    os.execve(  # noqa: S606
        sys.executable,
        [sys.executable, "-c", "from harmattan.dag_processor import child; child()"],
        child_environment(os.environ),
    )


def child() -> None:
    """Parse what the parent asks for: requests come on descriptor 0, output goes to 1 and 2."""
    from airflow.dag_processing.processor import _parse_file_entrypoint
    from airflow.sdk.execution_time.supervisor import _fork_main

    _fork_main(socket(fileno=0), socket(fileno=1), socket(fileno=2), 0, _parse_file_entrypoint)


def main() -> None:
    """Run ``airflow dag-processor`` with the arguments given, its children made strangers."""
    from airflow.__main__ import main as airflow
    from airflow.dag_processing import manager, processor

    class StrangersProcess(processor.DagFileProcessorProcess):
        """A parse whose child is :func:`become_stranger`."""

        @classmethod
        def start(cls, **arguments: Any) -> Any:
            """Start the child as ``DagFileProcessorProcess`` does, with another target."""
            return super().start(**{**arguments, "target": become_stranger})

    manager.DagFileProcessorProcess = StrangersProcess  # type: ignore[attr-defined]
    # Importing for the children would happen in this process, which holds the secrets.
    processor._pre_import_airflow_modules = lambda *_: None
    sys.argv = ["airflow", "dag-processor", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()

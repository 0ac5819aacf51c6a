"""Children that run strangers' code: a fresh interpreter of another user, without any secret.

Airflow forks a child for DAG files and one for triggers, with the parent's memory - the database
URI in it - and the parent's user. Here the child gives up its privileges and becomes a fresh
interpreter of another user before any stranger's code is imported; it keeps the sockets to its
parent and nothing else. The parent has the capabilities SETUID, SETGID and KILL (frame.launcher).
"""

from __future__ import annotations

import os
import pkgutil
import sys
from socket import socket
from typing import TYPE_CHECKING

from frame.launcher import SETPRIV

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The user `stranger` of airflow/Dockerfile.
STRANGER = 50009
# Those that parses run as, one at a time each; their group is the stranger's.
PARSERS = (STRANGER, 50010)
# The descriptor of a child's log lines, next to its stdin, stdout and stderr.
LOGS = 3


def child_environment(parent: Mapping[str, str]) -> dict[str, str]:
    """Return what a child gets of its parent's environment: no way to a secret."""
    kept = {
        name: value
        for name, value in parent.items()
        if not name.endswith(("_CMD", "_SECRET"))
        and not name.startswith(("NOMAD_", "AIRFLOW__SECRETS__"))
    }
    # Airflow wants an engine while it is imported; _fork_main then forbids its use altogether.
    kept["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "sqlite://"
    kept["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    kept["HOME"] = "/tmp"  # noqa: S108 - the one folder of the container that it may write
    return kept


def become_stranger(
    requests: socket, stdout: socket, stderr: socket, logs: int, target: Callable[[], None]
) -> None:
    """Replace this forked process by :func:`child` in a new interpreter of another user.

    Takes the place and the arguments of Airflow's ``_fork_main``. ``target`` is what Airflow would
    have called here: a function of a module, or a method of a class of one.
    """
    sockets = (requests.fileno(), stdout.fileno(), stderr.fileno(), logs)
    for number, descriptor in enumerate(sockets):
        os.dup2(descriptor, number)
    os.set_inheritable(LOGS, True)  # `dup2` leaves a descriptor that is already in its place
    os.closerange(LOGS + 1, os.sysconf("SC_OPEN_MAX"))
    program = "from harmattan.strangers import child; child()"
    spec = sys.modules[target.__module__].__spec__  # which knows the name of a `__main__`, too
    where = f"{spec.name if spec else target.__module__}:{target.__qualname__}"
    os.execve(  # noqa: S606
        SETPRIV,
        [
            SETPRIV, f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups",
            "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs",
            sys.executable, "-c", program, where,
        ],
        child_environment(os.environ),
    )  # fmt: skip


def child() -> None:
    """Run the target that the argument names, as Airflow runs it in a fork."""
    from airflow.sdk.execution_time.supervisor import _fork_main

    target = pkgutil.resolve_name(sys.argv[1])
    _fork_main(socket(fileno=0), socket(fileno=1), socket(fileno=2), LOGS, target)


def fork_strangers() -> None:
    """Let every child that Airflow forks in this process be :func:`become_stranger`."""
    from airflow.sdk.execution_time import supervisor

    supervisor._fork_main = become_stranger  # type: ignore[assignment]

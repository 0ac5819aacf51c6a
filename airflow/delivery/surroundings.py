"""The environment of what the gate starts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from delivery.verdict import MAX_TRACE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def plain(scratch: Path) -> dict[str, str]:
    """Return what every child sees: nothing of ours."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        # A thread a core would use up the address space that a process may take.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def airflow(scratch: Path, environ: Mapping[str, str], file_seconds: int) -> dict[str, str]:
    """Return Airflow's settings: the platform's airflow.cfg and [core], which hold no secrets.

    With a home and logs of its own, and without a database.
    """
    core = {
        name: value
        for name, value in environ.items()
        if re.fullmatch(r"AIRFLOW_CONFIG|AIRFLOW__CORE__[A-Z_]+", name)
        and not name.endswith(("_CMD", "_SECRET", "_KEY"))
    }
    return {
        **plain(scratch),
        **core,
        "AIRFLOW_HOME": str(scratch),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(scratch / "logs"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(file_seconds),
        # The frames below the file's own would hide its line.
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": str(MAX_TRACE),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent/airflow.db",
        # As in the DAG processor's children: a client of Airflow, not a part of it.
        "_AIRFLOW_PROCESS_CONTEXT": "client",
    }

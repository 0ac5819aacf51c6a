"""The DAG processor, whose parsing children cannot read its secrets nor claim others' DAGs.

``python -m harmattan.dag_processor --bundle-name NAME``, with the capabilities SETUID, SETGID and
KILL (harmattan.strangers).
"""

from __future__ import annotations

import sys

from harmattan.strangers import fork_strangers


def main() -> None:
    """Run ``airflow dag-processor`` with the arguments given, its children made strangers."""
    from airflow.__main__ import main as airflow
    from airflow.dag_processing import manager, processor

    from harmattan.claims import refuse_claims

    fork_strangers()
    refuse_claims(manager.DagFileProcessorManager)
    # Importing for the children would happen in this process, which holds the secrets.
    processor._pre_import_airflow_modules = lambda *_: None
    sys.argv = ["airflow", "dag-processor", *sys.argv[1:]]
    airflow()


if __name__ == "__main__":
    main()

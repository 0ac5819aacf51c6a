"""Which DAG ids a bundle may claim, decided where what its files say reaches the parser's parent.

The gate judges ids as well, but a file may name its DAGs otherwise once it is live. And whoever has
the id of a pipeline's DAG has its runs, its triggers and its place in the interface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The platform's own bundle: its ids are its own, and it may have any.
PIPELINES = "pipelines"
RESERVED = ("ingest_", "container_")


def is_pipelines(dag_id: str) -> bool:
    """Return whether a DAG of this id is of the pipelines' bundle, and no other's to write.

    Its task runs in the pipelines' triggerer, which writes what it keeps by itself.
    """
    return dag_id.startswith(RESERVED)


@dataclass(frozen=True)
class Holder:
    """Who has a DAG id in Airflow's table ``dag``."""

    bundle: str | None
    file: str | None
    keeps: bool  # the file has it, or cannot be read at the moment


def refused(
    bundle: str, file: str, claimed: Iterable[str], holders: Mapping[str, Holder]
) -> dict[str, str]:
    """Return, by the id, why the ``file`` of a ``bundle`` may not have some of the ids ``claimed``.

    Another bundle keeps an id whether its DAG runs or not, another file of the same bundle until it
    no longer claims it.
    """
    faults = {}
    for dag_id in claimed:
        holder = holders.get(dag_id)
        has = PIPELINES if is_pipelines(dag_id) else holder and holder.bundle
        if has not in (None, bundle) and bundle != PIPELINES:
            faults[dag_id] = (
                f"DAG id {dag_id!r}: expected an id that is free, found one that belongs to the "
                f"bundle {has}\nHINT: Give this DAG another id; ids that begin with "
                f"{' or '.join(RESERVED)} are for files of pipelines/ and containers/."
            )
        elif holder and holder.bundle == bundle and holder.keeps and holder.file != file:
            faults[dag_id] = (
                f"DAG id {dag_id!r} in {file}: expected an id that is free, found one that "
                f"{holder.file} has\nHINT: Give one of the two DAGs another id."
            )
    return faults


def own_part(file: str, parsed: Any, faults: Mapping[str, str]) -> Any:
    """Return what ``file`` may have of ``parsed``, with an import error of its own for the rest.

    ``parsed`` is Airflow's ``DagFileParsingResult``, ``faults`` is what :func:`refused` returned.
    A file speaks of no other: whatever it names, its errors are its own.
    """
    dags = [dag for dag in parsed.serialized_dags if dag.dag_id not in faults]
    own = {dag.dag_id for dag in dags}
    errors = [*(parsed.import_errors or {}).values(), *faults.values()]
    return parsed.model_copy(
        update={
            "serialized_dags": dags,
            "import_errors": {file: "\n".join(errors)} if errors else {},
            "warnings": [each for each in parsed.warnings or [] if each["dag_id"] in own],
        }
    )

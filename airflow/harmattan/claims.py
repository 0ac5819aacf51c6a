"""Which DAG ids a bundle may claim, decided where what its files say reaches the parser's parent.

The gate judges ids as well, but a file may name its DAGs otherwise once it is live. And whoever has
the id of a pipeline's DAG has its runs, its triggers and its place in the interface.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The platform's own bundle: its ids are its own, and it may have any.
PIPELINES = "pipelines"
RESERVED = "ingest_"


def is_pipelines(dag_id: str) -> bool:
    """Return whether a DAG of this id is a pipeline's, and no other task's or trigger's to write.

    Its task runs in the pipelines' triggerer, which writes what it keeps by itself.
    """
    return dag_id.startswith(RESERVED)


def refused(
    bundle: str, claimed: Iterable[str], holders: Mapping[str, str | None]
) -> dict[str, str]:
    """Return, by the id, why ``bundle`` may not have some of the ids ``claimed``.

    ``holders`` names the bundle that has an id already, running or not.
    """
    if bundle == PIPELINES:
        return {}
    faults = {}
    for dag_id in claimed:
        holder = PIPELINES if is_pipelines(dag_id) else holders.get(dag_id) or bundle
        if holder != bundle:
            faults[dag_id] = (
                f"DAG id {dag_id!r}: expected an id that is free, found one that belongs to the "
                f"bundle {holder}\nHINT: Give this DAG another id; ids that begin with {RESERVED} "
                "are for pipelines."
            )
    return faults


def own_part(bundle: str, file: str, parsed: Any, holders: Mapping[str, str | None]) -> Any:
    """Return what ``bundle`` may have of ``parsed``, with an import error of ``file`` for the rest.

    ``parsed`` is Airflow's ``DagFileParsingResult``.
    """
    faults = refused(bundle, (dag.dag_id for dag in parsed.serialized_dags), holders)
    dags = [dag for dag in parsed.serialized_dags if dag.dag_id not in faults]
    own = {dag.dag_id for dag in dags}
    errors = dict(parsed.import_errors or {})
    if faults:
        errors[file] = "\n".join(filter(None, [errors.get(file), *faults.values()]))
    return parsed.model_copy(
        update={
            "serialized_dags": dags,
            "import_errors": errors,
            "warnings": [each for each in parsed.warnings or [] if each["dag_id"] in own],
        }
    )


def refuse_claims(manager: Any) -> None:
    """Let ``manager``, Airflow's ``DagFileProcessorManager``, store :func:`own_part` alone."""
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    persist = manager.persist_parsing_result

    def persist_own_part(
        self: Any,
        *,
        bundle_name: str,
        parsing_result: Any,
        relative_fileloc: str,
        session: Any,
        **more: Any,
    ) -> None:
        claimed = [dag.dag_id for dag in parsing_result.serialized_dags]
        rows = session.execute(
            select(DagModel.dag_id, DagModel.bundle_name).where(DagModel.dag_id.in_(claimed))
        )
        holders = {dag_id: holder for dag_id, holder in rows}
        persist(
            self,
            bundle_name=bundle_name,
            parsing_result=own_part(bundle_name, relative_fileloc, parsing_result, holders),
            relative_fileloc=relative_fileloc,
            session=session,
            **more,
        )

    manager.persist_parsing_result = persist_own_part

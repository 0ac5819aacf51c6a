"""Which DAG ids a bundle may claim; test_dag_processor.py has it in a real processor."""

from __future__ import annotations

import pytest

from harmattan.claims import RESERVED, Holder, refused

HOLDERS = {
    "models": Holder("pipelines", "dags.py", keeps=False),
    "school_report": Holder("analysts", "ours.py", keeps=True),
    "left": Holder(None, None, keeps=True),
}


@pytest.mark.parametrize(
    ("bundle", "dag_id", "holder"),
    [
        ("analysts", "school_report", None),  # its own
        ("analysts", "new", None),
        ("analysts", "left", None),  # of no bundle
        ("analysts", "models", "pipelines"),
        ("analysts", "ingest_hr", "pipelines"),  # parsed or not
        ("analysts", "ingest_", "pipelines"),
        ("analysts", "my_ingest_hr", None),
        ("analysts", "INGEST_hr", None),  # Airflow's ids tell cases apart
        ("pipelines", "ingest_hr", None),
        ("pipelines", "models", None),
        ("pipelines", "school_report", None),  # nobody can take an id before the platform does
    ],
)
def test_who_may_claim_an_id(bundle: str, dag_id: str, holder: str | None) -> None:
    faults = refused(bundle, "ours.py", ["a_good_one", dag_id], HOLDERS)
    assert set(faults) == ({dag_id} if holder else set())
    if holder:
        assert f"DAG id {dag_id!r}" in faults[dag_id]
        assert f"the bundle {holder}" in faults[dag_id]
        assert "HINT: " in faults[dag_id]


@pytest.mark.parametrize("keeps", [True, False])
def test_an_id_stays_with_the_file_that_keeps_it(keeps: bool) -> None:
    holders = {"report": Holder("analysts", "first.py", keeps)}
    faults = refused("analysts", "second.py", ["report"], holders)
    assert set(faults) == ({"report"} if keeps else set())
    if keeps:
        assert "'report' in second.py" in faults["report"]
        assert "first.py has\nHINT: " in faults["report"]


def test_all_refused_ids_of_a_file_are_named() -> None:
    claimed = ["ingest_hr", "models", "ingest_records"]
    assert list(refused("analysts", "ours.py", claimed, HOLDERS)) == claimed


def test_the_gate_reserves_the_same_ids() -> None:
    from delivery import rules

    assert tuple(rules.RESERVED) == RESERVED

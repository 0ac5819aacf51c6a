"""Which DAG ids a bundle may claim; test_dag_processor.py has it in a real processor."""

from __future__ import annotations

import pytest

from harmattan.claims import RESERVED, refused

HOLDERS = {"models": "pipelines", "school_report": "analysts", "left": None}


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
    faults = refused(bundle, ["a_good_one", dag_id], HOLDERS)
    assert set(faults) == ({dag_id} if holder else set())
    if holder:
        assert f"DAG id {dag_id!r}" in faults[dag_id]
        assert f"the bundle {holder}" in faults[dag_id]
        assert "HINT: " in faults[dag_id]


def test_all_refused_ids_of_a_file_are_named() -> None:
    claimed = ["ingest_hr", "models", "ingest_records"]
    assert list(refused("analysts", claimed, HOLDERS)) == claimed


def test_the_gate_reserves_the_same_ids() -> None:
    from delivery import rules

    assert rules.RESERVED == RESERVED

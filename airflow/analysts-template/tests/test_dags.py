"""Every DAG imports and serialises, and every pipeline file is sound: what the gate asks too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_dag_imports_and_serialises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Airflow reads these when it is imported, so that comes after; nothing lands in your home.
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    bag = BundleDagBag(dag_folder=str(ROOT), bundle_path=ROOT, bundle_name="analysts")
    assert not bag.import_errors
    assert bag.dags
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)


@pytest.mark.parametrize("file", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda f: f.name)
def test_every_pipeline_file_is_sound(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "check", str(file)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

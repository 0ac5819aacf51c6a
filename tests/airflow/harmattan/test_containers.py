"""The DAGs that files of containers become, as a real Airflow parses them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts.repository import ROOT
from tests.airflow.harmattan.running import environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

DESK = ROOT / "airflow/analysts-template/examples/desk.yaml"
PARSE = """
import json, sys
from pathlib import Path
from airflow.serialization.serialized_objects import DagSerialization
from harmattan.containers import container_dags
from ingest.errors import ContractError
root = Path(sys.argv[1])
dags = container_dags(root / "sound")
try:
    container_dags(root / "wrong")
except ContractError as error:
    said = str(error)
(dag,) = (DagSerialization.to_dict(each)["dag"] for each in dags.values())
print("RESULT" + json.dumps([dag, dags["container_desk"].tasks[0].meta, said]))
"""


def test_a_file_is_a_dag_of_one_task_that_nomad_runs(tmp_path: Path) -> None:
    for name in ("sound", "wrong"):
        (tmp_path / name).mkdir()
    (tmp_path / "sound/desk.yaml").write_text(DESK.read_text())
    (tmp_path / "wrong/a.yaml").write_text("container: meltano\nschedule: often\nowner: x\n")
    (tmp_path / "wrong/b.yaml").write_text("container: meltano\n")
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(tmp_path)], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    dag, meta, said = json.loads(line.removeprefix("RESULT"))
    assert dag["dag_id"] == "container_desk"
    assert (dag["tags"], dag["max_active_runs"], dag["catchup"]) == (
        ["container", "meltano"], 1, False
    )  # fmt: skip
    (task,) = [each["__var"] for each in dag["tasks"]]
    trigger = task["start_trigger_args"]
    assert trigger["trigger_cls"] == "harmattan.runs.trigger.NomadJobTrigger"
    assert "container-meltano" in json.dumps(trigger)
    assert meta == {
        "environment": "prod", "job": "desk",
        "run_id": "{{ run_id }}", "log_url": "{{ ti.log_url }}",
    }  # fmt: skip
    for file, key in (("a.yaml", "schedule"), ("b.yaml", "owner"), ("b.yaml", "schedule")):
        assert [line for line in said.splitlines() if file in line and key in line], said

"""``dag-sync check``: a folder at a desk, judged as its push would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from delivery.check import check
from delivery.settings import CheckSettings
from frame.failure import WrongUse
from scripts.repository import ROOT
from tests.airflow.delivery.conftest import ALLOC
from tests.transform.conftest import FILES

if TYPE_CHECKING:
    from pathlib import Path

DAG = """
from airflow.sdk import DAG
with DAG("{id}", schedule={schedule!r}, tags={tags}, default_args={{"owner": "it-analytics"}}):
    pass
"""
TREE = {
    ".gitignore": "scratch/\n*.local.py\n",
    "dags/good.py": DAG.format(id="good", schedule="@daily", tags=["x"]),
    "dags/broken.py": "# airflow dag\n\n1 / 0\n",
    "dags/often.py": DAG.format(id="often", schedule="* * * * *", tags=[]),
    "dags/departs.py": "# gate: allow tags because nobody looks for it\n"
    + DAG.format(id="departs", schedule=None, tags=[]),
    "dags/gone.py": "# airflow dag\n1 / 0\n",
    "dags/mine.local.py": "# airflow dag\n1 / 0\n",
    "scratch/dag.py": "# airflow dag\n1 / 0\n",
    "pipelines/hr.yaml": "source: hr\nschema: raw_hr\n",
}


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@localhost"]
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


def laid(folder: Path, files: dict[str, str]) -> Path:
    """Make a repository of ``files``, of which git tracks the first half and ``dags/gone.py``."""
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    tracked = [*list(files)[: (len(files) + 1) // 2], *(n for n in files if n == "dags/gone.py")]
    git(folder, "add", "--", *tracked)
    git(folder, "commit", "--quiet", "-m", "A first commit")
    return folder


def dag_sync(*words: object, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "delivery", *map(str, words)],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder.parent), "COLUMNS": "200",
             **more},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.mark.slow
def test_it_finds_what_the_gate_finds_in_the_same_push(place: Path) -> None:
    folder = laid(place / "desk", TREE)
    (folder / "dags/gone.py").unlink()
    checked = dag_sync("check", "--json", folder=folder)
    assert checked.returncode == 1, checked.stderr
    assert checked.stderr == ""
    said = json.loads(checked.stdout)

    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "A push")
    run = place / "incoming" / ALLOC
    run.mkdir(parents=True)
    git(folder, "worktree", "add", "--quiet", "--detach", str(run / "tree"))
    (run / "tree/.git").unlink()
    candidate = {"commit": "a" * 40, "previous": "", "last": "", "judged": False, "refused": []}
    (run / "candidate.json").write_text(json.dumps(candidate))
    (place / "alloc/data").mkdir(parents=True)
    judged = dag_sync(
        "judge", "--same-user", folder=folder, NOMAD_ALLOC_ID=ALLOC,
        NOMAD_ALLOC_DIR=str(place / "alloc"), NOMAD_TASK_DIR=str(place),
        DELIVERY_INCOMING=str(place / "incoming"),
        AIRFLOW_CONFIG=str(ROOT / "airflow/config/airflow.cfg"),
    )  # fmt: skip
    assert judged.returncode == 1, judged.stderr
    gate = json.loads((place / "alloc/data/findings.json").read_text())
    assert said["findings"] == gate["findings"]
    assert said["exemptions"] == gate["exemptions"]
    assert said["verdict"] == gate["verdict"] == "refused"

    where = {(each["file"], each["line"], each["rule"]) for each in said["findings"]}
    assert ("dags/broken.py", 3, "import") in where
    assert {("dags/often.py", "schedule"), ("dags/often.py", "tags")} <= {
        (file, rule) for file, _, rule in where
    }
    assert {file for file, *_ in where} == {
        "dags/broken.py", "dags/often.py", "pipelines/hr.yaml",
    }  # fmt: skip
    assert [each["file"] for each in said["exemptions"]] == ["dags/departs.py"]
    assert all(each["how"] for each in said["findings"])


@pytest.mark.slow
def test_what_is_sound_is_said_for_people_and_models_are_left_out_only_if_one_says_so(
    tmp_path: Path,
) -> None:
    folder = laid(tmp_path / "desk", {**FILES, "dags/good.py": TREE["dags/good.py"]})
    before = sorted(folder.rglob("*"))
    done = dag_sync("check", folder, "--without-models", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the models were not read" in done.stdout
    assert "sound: " in done.stdout
    assert "read pipeline files, dashboards, DAGs" in done.stderr
    assert sorted(folder.rglob("*")) == before

    done = dag_sync("check", folder, folder=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "HINT: Run `make setup`, which brings it" in done.stderr


def looked_at(folder: Path, **changes: Any) -> list[tuple[str, str]]:
    settings = CheckSettings.from_environment({}).model_copy(update=changes)
    found = check(settings, folder, without_models=True).conclusion
    assert found.code == 1
    return [(each.file, each.what) for each in found.findings]


def test_what_a_push_may_not_be_made_of_is_found_before_any_code_runs(tmp_path: Path) -> None:
    folder = laid(tmp_path / "desk", {"dags/a.py": "1 / 0\n", "pipelines/a.yml": "x: 1\n"})
    (folder / "dags/out").symlink_to("/etc/hostname")
    laid(folder / "other", {"a.txt": "of another repository\n"})
    found = dict(looked_at(folder))
    assert found["pipelines/a.yml"] == "pipeline files end in .yaml: rename it"
    assert "/etc/hostname, which is not in the push" in found["dags/out"]
    assert "submodules are not taken" in found["other"]
    with (folder / "large.bin").open("wb") as file:
        file.truncate(2**40)
    assert dict(looked_at(folder))["large.bin"].endswith("at most 52428800 are taken")
    ((_, crowded),) = looked_at(folder, max_files=2)
    assert "at most 2 are taken" in crowded


def test_a_folder_that_git_does_not_know_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cannot be listed as git would push it") as caught:
        check(CheckSettings.from_environment({}), tmp_path, without_models=True)
    assert "git init" in caught.value.hint

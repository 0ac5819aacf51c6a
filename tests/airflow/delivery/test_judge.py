"""Strangers' code, for real: another user, real bounds, Airflow's own import."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from scripts.environments import packages
from tests.dashboards.examples import CONTENTS, MODELS
from tests.transform.conftest import FILES

if TYPE_CHECKING:
    from collections.abc import Callable

# Of this process alone, and its next too: the judge kills all that this user has.
UID = 10_000_000 + 2 * os.getpid()
COMMIT = "a" * 40
ALLOC = "11111111-2222-3333-4444-555555555555"
# What a judge's container has left, Docker's `cap_drop = ["all"]` and three added.
THREE_CAPS = ["setpriv", "--bounding-set=-all,+setuid,+setgid,+kill", "--no-new-privs"]

GOOD = """
from datetime import datetime
from airflow.sdk import dag, task
from shared.names import SCHOOL

@dag(dag_id="{id}", schedule="@daily", start_date=datetime(2026, 1, 1), tags=[SCHOOL],
     default_args={{"owner": "it-analytics"}})
def build():
    @task
    def count():
        return 1
    count()

build()
"""
BARE = 'from airflow.sdk import DAG\nwith DAG("{id}", schedule=None, tags=["x"]):\n    pass\n'
# Each file speaks for itself, so one import of Airflow judges them all.
BAD = {
    "dags/import_error.py": ("import airflow, dag_nothing\n", "ModuleNotFoundError.*dag_nothing"),
    "dags/syntax.py": ("# airflow dag\ndef (:\n", "SyntaxError"),
    "dags/exits.py": ("# airflow dag\nimport sys\nsys.exit(0)\n", "SystemExit"),
    "dags/exits_hard.py": ("# airflow dag\nimport os\nos._exit(0)\n", "an early exit"),
    "dags/crashes.py": ("# airflow dag\nimport os\nos.kill(os.getpid(), 11)\nos.abort()\n",
                        "by signal 6"),
    "dags/loops.py": (
        "# airflow dag\nwhile True:\n    pass\n",
        "^airflow.sdk.exceptions.AirflowTaskTimeout: .* after 2.0s"),
    "dags/loops_deaf.py": (
        "# airflow dag\nimport signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
        "while True:\n    pass\n", "takes longer than"),
    "dags/memory.py": ("# airflow dag\nx = bytearray(3 * 2**30)\n", "MemoryError"),
    "dags/bomb.py": (
        "# airflow dag\nimport os\nwhile True:\n    os.fork()\n",
        "BlockingIOError|longer than|early|process behind",
    ),
    "dags/daemon.py": (
        "# airflow dag\nimport os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)\n"
        "raise RuntimeError('left')\n",
        "RuntimeError: left"),
    "dags/kills.py": ("# airflow dag\nimport os\nos.kill({process_1}, 9)\n", "PermissionError"),
    "dags/writes.py": (
        "# airflow dag\nfrom pathlib import Path\n"
        "(Path(__file__).parent / 'x.py').write_text('')\n", "PermissionError"),
    "dags/reads_key.py": (
        "# airflow dag\nopen({secret!r}).read()\n", "PermissionError"),
    "dags/environment.py": (
        "# airflow dag\nimport os\n"
        "assert 'NOMAD_ALLOC_ID' not in os.environ\n"
        "status = open('/proc/thread-self/status').read()\n"
        "raise RuntimeError(f'{os.getresuid()} {os.getgroups()} {os.environ.get(\"S3CRET\")} '\n"
        "                   + status.split('NoNewPrivs:')[1].split()[0]\n"
        "                   + status.split('CapPrm:')[1].split()[0])\n",
        rf"\({UID}, {UID}, {UID}\) \[\] None 10{{16}}"),
    "dags/timetable.py": (
        "from airflow.sdk import DAG\nfrom airflow.timetables.base import Timetable\n"
        "class Mine(Timetable):\n"
        "    def infer_manual_data_interval(self, *, run_after): ...\n"
        "    def next_dagrun_info(self, *, last_automated_data_interval, restriction): ...\n"
        "with DAG('mine', schedule=Mine()):\n    pass\n", "is not registered"),
    "dags/reserved.py": (BARE.format(id="ingest_hr"),
                         "is kept for the file pipelines/hr.yaml"),
    "dags/grants.py": (
        "from airflow.sdk import DAG\n"
        "with DAG('grants', schedule=None, tags=['x'],\n"
        "         access_control={'Public': {'can_read'}}):\n    pass\n",
        "sets access_control"),
    "dags/twice_a.py": (BARE.format(id="twice"), "'twice' is defined in dags/twice_b.py as well"),
    "dags/twice_b.py": (BARE.format(id="twice"), "'twice' is defined in dags/twice_a.py as well"),
    "dags/quiet_daemon.py": (
        "import ctypes\n" + BARE.format(id="quiet") + "libc = ctypes.CDLL(None)\n"
        "if libc.fork() == 0:\n    libc.setsid()\n    libc.sleep(1000)\n",
        "it leaves a process behind: python"),
    "dags/answers.py": (
        "import os\n" + BARE.format(id="answers") + "for number in range(3, 20):\n    try:\n"
        "        os.write(number, b'{\"dags\": [], \"errors\": [], \"data\": []}')\n"
        "    except OSError:\n        pass\nos._exit(0)\n",
        "an early exit"),
    "dags/escapes.py": (
        "# airflow dag\nraise RuntimeError('\\x1b[31mred\\u202e' + 'x' * 9000)\n",
        "^RuntimeError: \\[31mredx+…$"),
}  # fmt: skip


@pytest.fixture
def stage(place: Path, stranger_python: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Lay a tree as fetch does and judge it, as process 1 with three capabilities."""

    def judge(
        files: dict[str, str], *flags: str, prefix: list[str] = THREE_CAPS, **more: str
    ) -> subprocess.CompletedProcess[str]:
        run = place / "incoming" / ALLOC
        for name, content in files.items():
            path = run / "tree" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (run / "tree").mkdir(parents=True, exist_ok=True)
        value = {"commit": COMMIT, "previous": "", "last": "", "judged": False, "refused": []}
        (run / "candidate.json").write_text(json.dumps(value))
        (place / "alloc" / "data").mkdir(parents=True, exist_ok=True)
        (place / "alloc" / "data").chmod(0o777)
        (place / "tmp").mkdir(exist_ok=True)
        (place / "tmp").chmod(0o1777)
        (place / "local").mkdir(exist_ok=True)
        return subprocess.run(
            [*prefix, sys.executable, "-m", "delivery", "judge", *flags],
            env={
                "PATH": os.environ["PATH"],
                "S3CRET": "seen",
                "TMPDIR": str(place / "tmp"),
                "NOMAD_ALLOC_ID": ALLOC,
                "NOMAD_ALLOC_DIR": str(place / "alloc"),
                "NOMAD_TASK_DIR": str(place / "local"),
                "DELIVERY_INCOMING": str(place / "incoming"),
                "DELIVERY_PYTHON": str(stranger_python),
                "DELIVERY_FILE_SECONDS": "2",
                "DELIVERY_STRANGER_UID": str(UID),
                "DELIVERY_STRANGER_GID": str(UID),
                **more,
            },
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    return judge


def findings(place: Path) -> list[dict[str, Any]]:
    value = json.loads((place / "alloc" / "data" / "findings.json").read_text())
    assert value["commit"] == COMMIT
    return value["findings"]  # type: ignore[no-any-return]


def as_another_user(python: Path) -> list[str]:
    """Return what starts the rest of a command (after its interpreter) as user 50011."""
    drop = ["setpriv", "--reuid=50011", "--regid=50011", "--clear-groups"]
    again = "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    return [*drop, str(python), "-c", again]


def strangers() -> list[str]:
    """Return the living processes of the strangers' user; the dead wait for init to reap them."""
    lines = subprocess.run(
        ["ps", "-o", "stat=,pid=,args=", "-u", str(UID)],
        capture_output=True, text=True, check=False,
    ).stdout.splitlines()  # fmt: skip
    return [line for line in lines if not line.startswith("Z")]


def test_every_bad_file_is_named_with_its_reason_and_nothing_of_it_lives_on(
    stage: Any, place: Path
) -> None:
    secret = place / "secret"
    secret.write_text("key")
    secret.chmod(0o600)
    files = {
        name: text.replace("{process_1}", str(os.getpid())).replace("{secret!r}", repr(str(secret)))
        for name, (text, _) in BAD.items()
    }
    files["shared/names.py"] = 'SCHOOL = "Cape Coast"\n'
    files["dags/good.py"] = GOOD.format(id="good")
    files["dags/no_dag.py"] = "# airflow dag\nTEN = 10\n"
    done = stage(files)
    assert done.returncode == 1, done.stderr
    assert strangers() == []
    found: dict[str, list[str]] = {}
    for finding in findings(place):
        found.setdefault(finding["file"], []).append(
            "\n".join([finding["what"], *finding["trace"]])
        )
    expected = {name: reason for name, (_, reason) in BAD.items() if reason}
    assert set(found) == set(expected), done.stderr
    assert findings(place) == sorted(findings(place), key=lambda each: (each["file"], each["line"]))
    assert all(each["rule"] and each["how"] for each in findings(place))
    for name, reason in expected.items():
        assert any(re.search(reason, said, re.MULTILINE) for said in found[name]), found[name]
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
    assert not (place / "incoming" / ALLOC / "tree" / "dags" / "x.py").exists()


@pytest.fixture
def dbt(place: Path, stranger_python: Path) -> str:
    """Return a dbt that the strangers' user may run."""
    program = place / "dbt"
    start = f"import sys; sys.path.insert(0, {str(packages('dbt'))!r}); import dbt.cli.main as dbt"
    program.write_text(f'#!/bin/sh\nexec {stranger_python} -IBc "{start}; dbt.cli()" "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_a_dbt_project_is_given_no_variable_and_refused_with_dbts_words(
    stage: Any, place: Path, dbt: str
) -> None:
    files = {**FILES, "models/alone.sql": "select '{{ env_var('S3CRET') }}'"}
    done = stage(files, HARMATTAN_DBT=dbt)
    assert done.returncode == 1, done.stderr
    (finding,) = findings(place)
    assert (finding["file"], finding["rule"]) == ("dbt_project.yml", "models")
    assert "S3CRET" in "\n".join(finding["trace"])
    assert "seen" not in "\n".join(finding["trace"])


def test_pipelines_models_and_charts_that_are_wrong_are_all_refused_at_once(
    stage: Any, place: Path, dbt: str
) -> None:
    models = copy.deepcopy(CONTENTS[MODELS])
    models["models"][0]["columns"].pop()
    charts = {name: yaml.safe_dump(each) for name, each in {**CONTENTS, MODELS: models}.items()}
    wrong = {
        "pipelines/hr.yaml": "this is: [not a pipeline\n",
        "models/alone.sql": "select {{ ref('nothing') }}",
    }
    done = stage({**FILES, **charts, **wrong}, HARMATTAN_DBT=dbt)
    assert done.returncode == 1, done.stderr
    found = findings(place)
    (pipeline,) = [each for each in found if each["rule"] == "pipeline"]
    assert (pipeline["file"], pipeline["line"]) == ("pipelines/hr.yaml", 2)
    assert "expected YAML" in pipeline["what"]
    (model,) = [each for each in found if each["rule"] == "models"]
    assert model["file"] == "models/alone.sql"
    assert "depends on a node named 'nothing'" in "\n".join(model["trace"])
    shown = [each for each in found if each["rule"] == "dashboard"]
    assert shown
    assert {each["file"].partition("/")[0] for each in shown} == {"dashboards"}, shown
    assert all("students" in each["what"] for each in shown), shown
    assert len(shown) + 2 == len(found), found


def test_a_sound_tree_is_sound_and_shared_modules_import(stage: Any, place: Path) -> None:
    files = {
        "shared/names.py": 'SCHOOL = "Cape Coast"\n',
        "dags/one.py": GOOD.format(id="one"),
        "dags/two.py": GOOD.format(id="two"),
        "README.md": "airflow dag",
        "airflow/__init__.py": "raise RuntimeError('shadows')",
    }
    done = stage(files)
    assert done.returncode == 0, done.stderr
    assert "files=2" in done.stderr
    assert "dags=2" in done.stderr
    assert findings(place) == []


def test_the_template_that_analysts_start_from_is_sound(stage: Any, place: Path, dbt: str) -> None:
    root = Path(__file__).parents[3] / "airflow" / "analysts-template"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    )
    files = {name: (root / name).read_text() for name in tracked.stdout.split("\0") if name}
    config = str(root.parent / "config" / "airflow.cfg")
    done = stage(files, DELIVERY_FILE_SECONDS="30", AIRFLOW_CONFIG=config, HARMATTAN_DBT=dbt)
    assert done.returncode == 0, done.stderr
    for said in ("rule=pipeline", "rule=models", "rule=dashboard", "dags="):
        assert said in done.stderr
    assert findings(place) == []
    assert not (place / "incoming" / ALLOC / "tree" / "target").exists()


def test_output_without_end_is_cut_and_refused(stage: Any, place: Path) -> None:
    files = {"dags/loud.py": "# airflow dag\nwhile True:\n    print('x' * 10000)\n"}
    done = stage(files, DELIVERY_FILE_SECONDS="60")
    assert done.returncode == 1, done.stderr
    (finding,) = findings(place)
    assert (finding["file"], finding["rule"]) == ("dags/loud.py", "bounds")
    assert "it prints more than 8388608 bytes" in finding["what"]
    assert len(done.stderr) < 20_000


def test_a_file_that_kills_the_check_is_refused_by_its_name(stage: Any, place: Path) -> None:
    done = stage({"dags/kills.py": "# airflow dag\nimport os\nos.kill(-1, 9)\n"})
    assert done.returncode == 1, done.stderr
    (finding,) = findings(place)
    assert finding["file"] == "dags/kills.py"
    assert "kills all processes of its user" in finding["what"]
    assert strangers() == []


def test_what_was_judged_before_ends_before_airflow_is_imported(stage: Any, place: Path) -> None:
    run = place / "incoming" / ALLOC
    run.mkdir(parents=True)
    done = stage({}, prefix=["sh", "-c", (
        f"""sed -i 's/"judged": false/"judged": true/' {run}/candidate.json; exec "$@" """
    ), "sh"], DELIVERY_PYTHON="/nonexistent")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stderr


def test_a_sandbox_that_does_not_start_is_no_verdict(stage: Any, place: Path) -> None:
    done = stage({"dags/a.py": "# airflow dag"}, DELIVERY_PYTHON="/nonexistent/python")
    assert done.returncode == 4, done.stderr
    assert "HINT: Run the task as root" in done.stderr
    handed = json.loads((place / "alloc" / "data" / "findings.json").read_text())
    assert handed["verdict"] == "unknown"
    assert [each["rule"] for each in handed["findings"]] == ["judge"]


def test_without_root_it_refuses_to_start(stage: Any, stranger_python: Path) -> None:
    as_other = as_another_user(stranger_python)
    done = stage({}, prefix=as_other)
    assert done.returncode == 2, done.stderr
    assert "dag-sync check" in done.stderr


def test_code_one_trusts_is_judged_without_root(
    stage: Any, place: Path, stranger_python: Path
) -> None:
    as_other = as_another_user(stranger_python)
    files = {"shared/names.py": "SCHOOL = 'x'\n", "dags/a.py": GOOD.format(id="a")}
    files["dags/b.py"] = "# airflow dag\n1 / 0\n"
    done = stage(files, "--same-user", prefix=as_other)
    assert done.returncode == 1, done.stderr
    assert [finding["file"] for finding in findings(place)] == ["dags/b.py"]


def test_a_check_that_takes_too_long_as_a_whole_is_no_verdict(stage: Any, place: Path) -> None:
    done = stage({"dags/a.py": "# airflow dag\n"}, DELIVERY_JUDGE_SECONDS="1")
    assert done.returncode == 4, done.stderr
    assert "the check took longer than its time bound" in [f["what"] for f in findings(place)]

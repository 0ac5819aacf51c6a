"""Real DAG processors: who parses, and which DAGs of a bundle are believed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from harmattan.strangers import PARSERS
from tests.airflow.harmattan.service import service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.programs

DAG = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
for dag_id in {ids}:
    with DAG(dag_id, schedule=None, description={description!r}) as dag:
        EmptyOperator(task_id="t")
    globals()[dag_id] = dag
"""
# What a file finds while it is parsed is what its DAG is described by.
LOOK = """
import ctypes, json, os
from pathlib import Path
from airflow.configuration import conf
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator

def tried(action):
    try:
        return action()
    except BaseException as error:
        return type(error).__name__

libc = ctypes.CDLL(None)
seen = {"user": os.getuid(), "environment": str(dict(os.environ)),
        "settings": [tried(lambda: conf.get("database", "sql_alchemy_conn")),
                     tried(lambda: conf.get("core", "fernet_key"))],
        "file": tried(lambda: Path(PLACE, "database_uri").read_text()),
        "parent": tried(lambda: Path(f"/proc/{os.getppid()}/environ").read_text()),
        "memory": tried(lambda: open(f"/proc/{os.getppid()}/mem").read(1)),
        # PTRACE_ATTACH and PTRACE_SEIZE
        "traced": [libc.ptrace(how, os.getppid(), 0, 0) for how in (16, 0x4206)]}
with DAG("look", schedule=None, description=json.dumps(seen)) as dag:
    EmptyOperator(task_id="t")
"""
# What files of strangers try; the others' DAGs are there all the same.
ATTACKS = {
    "kills.py": "import os, signal; os.kill(-1, signal.SIGKILL); os.kill(os.getppid(), 9)",
    "crashes.py": "import os; os.abort()",
    "hangs.py": "import signal, time\nsignal.signal(14, signal.SIG_IGN)\nwhile True: time.sleep(9)",
    "garbage.py": "import os; os.write(0, b'\\0\\0\\0\\4junk'); os._exit(0)",
    # Leaves a daemon, which holds its pipes, and files where others write.
    "daemon.py": """
import os, time
from pathlib import Path
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
Path(os.environ["TMPDIR"], "left").touch()
"""
    + DAG.format(ids=["daemons"], description=""),
    # Says that its DAG stands in a file that only the service may read, and speaks for another.
    "lies.py": """
from airflow.dag_processing import processor
def lie(bag, log, serialize=processor._serialize_dags):
    dags, _ = serialize(bag, log)
    for dag in dags:
        dag.data["dag"].update(fileloc=PLACE + "/database_uri", relative_fileloc="good.py")
    return dags, {"good.py": "a forged error"}
processor._serialize_dags = lie
"""
    + DAG.format(ids=["lies"], description=""),
}
PLATFORMS, FORGED = "the platform's", "a stranger's"


class Parsed:
    """What the metadata database has after both bundles were parsed."""

    def __init__(self, uri: str, secrets: tuple[str, str], output: str) -> None:
        self.secrets, self.output = secrets, output
        with psycopg.connect(uri) as connection:
            self.dags = {
                dag_id: (bundle, description)
                for dag_id, bundle, description in connection.execute(
                    "SELECT dag_id, bundle_name, description FROM dag"
                )
            }
            self.code = dict(connection.execute("SELECT dag_id, source_code FROM dag_code"))
            self.errors = dict(
                connection.execute(
                    "SELECT bundle_name || '/' || filename, stacktrace FROM import_error"
                ).fetchall()
            )


@pytest.fixture(scope="module")
def parsed(metadata_database: Callable[[], str]) -> Iterator[Parsed]:
    """The pipelines' bundle parsed, then the analysts', each file once and as its job does."""
    with service(metadata_database(), "", ["pipelines", "analysts"]) as airflow:
        place = airflow.place
        files = {
            "pipelines/ours.py": (["ingest_hr", "models"], PLATFORMS),
            "analysts/good.py": (["school_report"], FORGED),
            "analysts/takes.py": (["models", "beside"], FORGED),
            "analysts/renamed.py": (["ingest_hr", "ingest_new"], FORGED),
        }
        for name, (ids, description) in files.items():
            (place / name).write_text(DAG.format(ids=ids, description=description))
        (place / "analysts/look.py").write_text(LOOK.replace("PLACE", repr(str(place))))
        for name, code in ATTACKS.items():
            marked = f"# airflow dag\n{code}".replace("PLACE", repr(str(place)))
            (place / "analysts" / name).write_text(marked)
        airflow.environment["AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT"] = "10"
        with (place / "output").open("w") as output:
            for bundle in ("pipelines", "analysts"):
                words = ("--bundle-name", bundle, "--num-runs", "1")
                processor = airflow.start(output, "harmattan.dag_processor", *words)
                try:
                    code = processor.wait(90)
                finally:
                    processor.kill()
                assert code == 0, (place / "output").read_text()[-5000:]
        assert list((place / "tmp").glob("left")) == []
        yield Parsed(airflow.uri, airflow.secrets, (place / "output").read_text())


def test_a_bundle_has_the_ids_that_are_free(parsed: Parsed) -> None:
    assert parsed.dags["school_report"] == ("analysts", FORGED)
    assert parsed.dags["beside"] == ("analysts", FORGED)


def test_a_dag_of_another_bundle_stays_what_it_is(parsed: Parsed) -> None:
    assert parsed.dags["ingest_hr"] == parsed.dags["models"] == ("pipelines", PLATFORMS)


def test_an_id_of_pipelines_is_refused_before_there_is_one(parsed: Parsed) -> None:
    assert "ingest_new" not in parsed.dags


def test_an_import_error_names_each_id_and_who_has_it(parsed: Parsed) -> None:
    assert "DAG id 'models': expected an id that is free" in parsed.errors["analysts/takes.py"]
    for dag_id in ("ingest_hr", "ingest_new"):
        assert f"DAG id {dag_id!r}" in parsed.errors["analysts/renamed.py"]
    for name in ("analysts/takes.py", "analysts/renamed.py"):
        assert "bundle pipelines\nHINT: " in parsed.errors[name]


def test_a_file_is_parsed_by_the_stranger_without_a_way_to_a_secret(parsed: Parsed) -> None:
    seen: dict[str, Any] = json.loads(parsed.dags["look"][1])
    assert seen["user"] in PARSERS
    assert seen["file"] == seen["parent"] == seen["memory"] == "PermissionError"
    assert seen["traced"] == [-1, -1]
    assert not any(each in str(seen) + parsed.output for each in parsed.secrets)
    assert "_CMD" not in seen["environment"]


def test_an_attacker_has_an_import_error_and_nobody_else(parsed: Parsed) -> None:
    attackers = ("kills", "crashes", "hangs", "garbage", "lies", "takes", "renamed")
    assert set(parsed.errors) == {f"analysts/{name}.py" for name in attackers}
    assert "expected its DAGs, found that it took longer" in parsed.errors["analysts/hangs.py"]
    assert "the code -6" in parsed.errors["analysts/crashes.py"]


def test_a_daemon_costs_its_file_nothing_and_ends(parsed: Parsed) -> None:
    assert parsed.dags["daemons"][0] == "analysts"


def test_airflow_shows_no_file_but_the_dags_own(parsed: Parsed) -> None:
    assert "airflow dag" in parsed.code["lies"]
    assert not any(secret in str(parsed.code) for secret in parsed.secrets)

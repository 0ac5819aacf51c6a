from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure, WrongUse
from scripts import deploy, jobs, status
from scripts.access import Access
from scripts.cluster import connect
from scripts.containers import load_containers
from scripts.repository import ROOT
from scripts.sources import load_sources
from scripts.vault_setup import LOGIN
from tests.conftest import free_port
from tests.nomad.agent import running_cluster
from tests.nomad.rendering import image_variables

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

LOCAL = ROOT / "nomad/vars/local.hcl"


def test_jobs_are_run_once_each_and_what_others_wait_for_first() -> None:
    order = [each.id for each in jobs.platform()]
    assert len(order) == len(set(order))
    for first, then in (
        ("redis", "airflow-scheduler"),
        ("dag-mirror", "airflow-dag-processor-analysts"),
        ("airflow-migrate", "airflow-webserver"),
        ("airflow-webserver", "airflow-worker-analysts"),
        ("superset-migrate", "superset"),
    ):
        assert order.index(first) < order.index(then)
    assert not set(order) & {each.id for each in jobs.stand_ins()}


def test_all_that_is_in_the_registry_has_a_backup_job() -> None:
    backups = {each.id: each.variables for each in jobs.platform() if each.id.startswith("backup-")}
    paths = {
        "hr": "backup/databases/hr",
        "records": "backup/databases/records",
        "service_desk": "backup/databases/service_desk",
        "airflow": "backup/databases/airflow",
        "superset": "backup/databases/superset",
        "warehouse": "backup/databases/warehouse",
        "postgres_globals": "backup/servers/postgres",
        "nomad": None,
        "vault": None,
    }
    of_their_own = {"backup-coverage", "backup-monthly"}
    assert set(backups) == {f"backup-{name}" for name in paths} | of_their_own
    for name, path in paths.items():
        variables = backups[f"backup-{name}"]
        assert variables.get("database_path") == path
        assert name in (variables.get("database"), variables.get("snapshot"))


def test_each_source_and_container_has_a_job_that_airflow_may_launch() -> None:
    names = [f"ingest-{source.name}" for source in load_sources()]
    names += [f"container-{container.name}" for container in load_containers()]
    assert [each.id for each in jobs.runs()] == names
    assert not {each.id for each in jobs.runs()} & {each.id for each in jobs.platform()}


def test_the_namespaces_are_those_of_the_variables(tmp_path: Path) -> None:
    first, second = tmp_path / "a.hcl", tmp_path / "b.hcl"
    first.write_text('runs_namespace = "a-runs"\n')
    second.write_text('namespace = "b"\n')
    assert jobs.namespaces([LOCAL]) == jobs.Namespaces("default", "runs")
    assert jobs.namespaces([first, second]) == jobs.Namespaces("b", "a-runs")
    second.write_text('runs_namespace = "b-runs"\n')
    assert jobs.namespaces([first, second]) == jobs.Namespaces("default", "b-runs")


def test_one_namespace_for_jobs_and_for_runs_is_refused(tmp_path: Path) -> None:
    """Who may stop what Airflow launched could stop the platform."""
    variables = tmp_path / "a.hcl"
    variables.write_text('runs_namespace = "default"\n')
    with pytest.raises(WrongUse, match="expected two, found one"):
        jobs.namespaces([variables])


def test_an_unknown_job_is_told_with_those_that_are_there(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command("python", "-m", "scripts.deploy", f"--var-file={LOCAL}", "redis", "reddis")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: there is no job reddis\n" in done.stderr
    for each in (*jobs.platform(), *jobs.runs()):
        assert each.id in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.programs
def test_the_platform_is_deployed_without_the_analysts_python_and_nobody_misses_it(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """By a Nomad that takes every job; its node has no Docker, so that none becomes well."""
    variables = tmp_path / "without.hcl"
    variables.write_text("analysts_python = false\n")
    files = [f"--var-file={each}" for each in (LOCAL, image_variables(), variables)]
    without = {"airflow-worker-analysts", "airflow-dag-processor-analysts"}
    with running_cluster(tmp_path, vault="http://127.0.0.1:1", login=LOGIN) as (server, _):
        nomad = connect(server.address, server.token)
        nomad.namespace.create_namespace({"Name": jobs.Namespaces.runs})
        access = Access({"NOMAD_ADDR": server.address, "NOMAD_TOKEN": server.token})
        given = {"NOMAD_ADDR": server.address, "NOMAD_TOKEN": server.token}
        done = command("python", "-m", "scripts.deploy", "--timeout=0", *files, **given)
        assert "not every job is well" in done.stderr
        groups = nomad.job.get_job("airflow-triggerer")["TaskGroups"]
        assert [group["Name"] for group in groups] == ["triggerer-pipelines"]
        registered = {each["ID"] for each in nomad.jobs.get_jobs() if not each["ParentID"]}
        assert registered == {each.id for each in jobs.platform()} - without
        rows = {row.name: row for row in status.jobs(access)}
        assert set(rows) == registered | {each.id for each in jobs.runs()}
        assert "absent" not in {row.state for row in rows.values()}
        # With the analysts' group again, both are missed until they are there.
        done = command(
            "python", "-m", "scripts.deploy", "--timeout=0", *files[:2], "airflow-triggerer",
            **given,
        )  # fmt: skip
        assert "airflow-triggerer" in done.stderr
        missed = {row.name for row in status.jobs(access) if row.state == "absent"}
        assert missed == without


@pytest.mark.programs
def test_what_nomad_refuses_is_told_in_nomads_words() -> None:
    deployment = jobs.job("redis", redis_port="0")
    with pytest.raises(Failure, match="A port is a number from 1 to 65535") as caught:
        deploy.run(deployment, [LOCAL], {"NOMAD_ADDR": "http://127.0.0.1:1"})
    assert caught.value.message.startswith("Nomad refused redis:")
    assert "nomad/jobs/redis.nomad.hcl" in caught.value.hint
    # One file of variables serves all jobs: that it sets others too is no news.
    assert "was set but was not found in known variables" not in caught.value.message


@pytest.mark.programs
def test_a_nomad_that_does_not_answer_is_one_clear_error(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    images = tmp_path / "images.hcl"  # which stand-ins read as well
    images.write_text('local_image = "harmattan/local:1"\n')
    done = command(
        "python", "-m", "scripts.deploy", f"--var-file={ROOT}/nomad/vars/production.hcl",
        f"--var-file={images}", "redis", NOMAD_ADDR=f"http://127.0.0.1:{free_port()}",
    )  # fmt: skip
    assert done.returncode == 1
    assert "HINT: Check NOMAD_ADDR" in done.stderr
    assert "connection refused" in done.stderr
    assert done.stderr.count("HINT:") == 1
    assert "Traceback" not in done.stderr


def test_a_file_of_variables_is_needed(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command("python", "-m", "scripts.deploy")
    assert done.returncode == 2
    assert "--var-file" in done.stderr


@pytest.mark.parametrize("timeout", ["-1", "soon"])
def test_a_timeout_is_a_number_of_seconds(
    command: Callable[..., subprocess.CompletedProcess[str]], timeout: str
) -> None:
    done = command("python", "-m", "scripts.deploy", f"--var-file={LOCAL}", "--timeout", timeout)
    assert done.returncode == 2
    assert "--timeout" in done.stderr


def test_make_deploy_hands_its_timeout_on(
    command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = command("make", "--dry-run", "deploy", "VARS=a.hcl b.hcl", "TIMEOUT=120")
    assert "--var-file a.hcl --var-file b.hcl --timeout 120" in " ".join(done.stdout.split())
    assert "--timeout" not in command("make", "--dry-run", "deploy", "VARS=a.hcl").stdout

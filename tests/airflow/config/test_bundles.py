"""Airflow's own bundle of DAGs, from a mirror with https that asks for a login."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from frame import trust
from tests.git_https import git_https
from tests.nomad.rendering import DEPLOYMENTS, output
from tests.tls import PUBLIC, Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.programs

READ = """
import os, sys
from airflow.dag_processing.bundles.manager import DagBundlesManager
bundle = DagBundlesManager().get_bundle("analysts")
bundle.initialize()
print("READ", (bundle.path / "dags/one.py").read_text(), bundle.get_current_version().version)
bundle.refresh()
"""


def git(*words: str | Path) -> str:
    return subprocess.check_output(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], text=True
    ).strip()


@pytest.mark.parametrize("job_id", ["airflow-worker-analysts", "airflow-dag-processor-analysts"])
def test_a_bundle_is_read_from_a_mirror_that_asks_for_a_login(
    job_id: str,
    airflow_program: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    work, authority = tmp_path / "work", Authority()
    git("init", "--quiet", "--initial-branch=live", work)
    (work / "dags").mkdir()
    (work / "dags/one.py").write_text("one")
    git("-C", work, "add", "dags")
    git("-C", work, "commit", "--quiet", "--message=First")
    git("clone", "--quiet", "--bare", work, tmp_path / "served/analysts.git")
    with git_https(tmp_path / "served", tmp_path, authority, "reader:a-token") as server:
        done = output(DEPLOYMENTS[job_id], dag_mirror_login="true", dag_mirror_url=server.url)
        (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
        task = group["Tasks"][-1]
        (template,) = [
            each["EmbeddedTmpl"]
            for each in task["Templates"]
            if each["DestPath"].endswith("/git_config")
        ]
        assert task["Env"]["GIT_CONFIG_GLOBAL"] == "/secrets/git_config"
        bundles = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"
        read = airflow_program(
            "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
            "-m", "frame.trust", sys.executable, "-W", "ignore", "-c", READ,
            GIT_CONFIG_GLOBAL=str(server.config(template, tmp_path / "git_config")),
            SSL_CERT_FILE=PUBLIC,
            TMPDIR=str(tmp_path),
            AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH=str(tmp_path / "bundles"),
            **{trust.OWN: authority.pem, bundles: task["Env"][bundles]},
        )  # fmt: skip
    assert f"READ one {git('-C', work, 'rev-parse', 'HEAD')}" in read.stdout, read.stderr[-3000:]
    assert set(server.answers) == {200}
    said = read.stdout + read.stderr
    kept = [file for file in (tmp_path / "bundles").rglob("*") if file.is_file()]
    for secret in ("a-token", server.header()):
        assert secret not in said
        assert not [file for file in kept if secret.encode() in file.read_bytes()]

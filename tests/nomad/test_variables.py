"""Variables: declared with care, refusing what is wrong, and set by every environment's file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from scripts.repository import ROOT
from scripts.variables import read_variables
from tests.nomad.rendering import (
    DEPLOYMENTS,
    FILES,
    IMAGES,
    PLATFORM,
    VARIABLE_FILES,
    declared,
    output,
    rendered,
)

if TYPE_CHECKING:
    from pathlib import Path

# What scripts/deploy.py gives for each job, and the image tags, which a file of their own holds.
GIVEN_BY_DEPLOY = {
    "bundle", "database", "database_path", "backup_schedule", "snapshot", "servers",
    "drill_start", "source", "source_connections", "container",
}  # fmt: skip
PINNED = "The image must be pinned by a tag other than latest, or by a digest."
ENVIRONMENT = "The environment must be lower-case letters, digits and hyphens."
ADDRESS = "An address is a URL without a slash at its end."
PORT = "A port is a number from 1 to 65535."
PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
NAME = "A database's name is lower-case letters, digits and underscores."
# One job a variable: the declarations are the same in every file, as a test below holds.
REFUSED = [
    *[
        (job_id, variable, value, PINNED)
        for job_id, variable in (
            ("redis", "redis_image"),
            ("airflow-scheduler", "airflow_image"),
            ("backup-hr", "backup_image"),
            ("local-b2", "local_image"),
            ("ingest-hr", "ingest_image"),
            ("superset", "superset_image"),
        )
        for value in ("registry.test:5000/image:latest", "image", "image@sha256:abc")
    ],
    ("container-meltano", "container_images", '{"meltano": "meltano:latest"}', PINNED),
    ("container-meltano", "container_images", '{"meltano": "meltano"}', PINNED),
    ("container-meltano", "container", "Meltano", "A container's name is lower-case letters"),
    ("container-meltano", "container_args", '["a\\nb"]', "A word is of printable characters"),
    ("container-meltano", "container_meta", '["A"]', "A name is lower-case letters"),
    ("container-meltano", "container_memory", "16", "A container needs at least 32 MB."),
    ("redis", "environment", "Prod!", ENVIRONMENT),
    ("airflow-scheduler", "environment", "2production", ENVIRONMENT),
    ("backup-hr", "environment", "a/b", ENVIRONMENT),
    ("redis", "redis_port", "0", PORT),
    ("redis", "redis_port", "65536", PORT),
    ("redis", "redis_results_port", "0", PORT),
    ("redis", "redis_memory", "63", "Redis needs at least 64 MB."),
    ("dag-mirror", "dag_mirror_port", "-1", PORT),
    ("airflow-webserver", "webserver_port", "70000", PORT),
    ("superset", "superset_port", "0", PORT),
    ("superset", "dag_mirror_url", "git://mirror/", ADDRESS),
    ("superset", "proxy_addresses", "*", "Addresses and networks stand with commas"),
    ("airflow-webserver", "proxy_addresses", "proxy.example.org", "Addresses and networks"),
    ("airflow-migrate", "ca_certificates", '["/etc/ssl/ca.pem"]', "An authority is a certificate"),
    ("airflow-webserver", "airflow_url", "https://airflow.example.org/", ADDRESS),
    ("airflow-webserver", "airflow_url", "airflow.example.org", ADDRESS),
    ("airflow-webserver", "webserver_count", "0", "At least one"),
    ("airflow-scheduler", "scheduler_count", "0", "At least one"),
    ("airflow-scheduler", "redis_address", "redis.example.org", "The address of Redis is"),
    ("airflow-scheduler", "redis_results_address", "redis", "The address of the results"),
    ("airflow-worker-analysts", "redis_address", "redis://10.0.0.1:6379", "The address of Redis"),
    ("airflow-worker-analysts", "queue", "Heavy!", "A queue is lower-case letters and digits."),
    ("airflow-worker-analysts", "vault_url", "vault.example.org:8200", ADDRESS),
    ("airflow-worker-analysts", "dag_mirror_url", "git://mirror/", ADDRESS),
    ("airflow-worker-analysts", "worker_count", "0", "At least one worker is needed."),
    ("airflow-worker-analysts", "worker_concurrency", "0", "At least one task at a time"),
    ("airflow-worker-analysts", "worker_memory", "256", "A worker needs at least 512 MB."),
    ("airflow-dag-processor-analysts", "bundle", "x", "The bundle is pipelines or analysts."),
    ("airflow-clean", "metadata_days", "6", "Airflow's database keeps at least a week."),
    ("airflow-clean", "clean_schedule", "daily", "A schedule is five cron fields"),
    ("airflow-migrate", "clean_database_role", "a b", "A role is letters, digits"),
    ("airflow-logs", "log_days", "0", "Logs are kept for at least a day."),
    ("airflow-logs", "log_server_count", "0", "At least one node has the volume of the logs."),
    ("dag-sync", "analysts_remote", "http://git.example.org/dags.git", "The remote is ssh://"),
    ("dag-sync", "analysts_remote", "https://me:x@git.example.org/d.git", "The remote is ssh://"),
    ("dag-sync", "analysts_remote", "git@git.example.org:dags.git", "The remote is ssh://"),
    ("dag-sync", "forge", "bitbucket", "A forge is none, github, gitlab or gitea."),
    ("dag-sync", "forge_url", "https://git.example.org/", "The address of the API is"),
    ("dag-sync", "author_mail_domains", '["*"]', "A domain is lower-case letters"),
    ("backup-hr", "database", "hr; rm", NAME),
    ("backup-hr", "database", "Hr", NAME),
    ("backup-hr", "b2_bucket", "short", "A bucket's name is 6 to 63 letters"),
    ("backup-hr", "b2_realm", "b2.example.org", "The realm is production or a URL."),
    ("backup-hr", "recovery_fingerprint", "ABCD", "A fingerprint is 40 or 64 hexadecimal digits"),
    ("ingest-hr", "source", "Hr", "A source's name is lower-case letters, digits"),
    ("ingest-hr", "source_connections", "{}", "Name at least the source's own connection."),
    ("ingest-hr", "runs_namespace", "a b", "A namespace is letters, digits and hyphens."),
    ("ingest-hr", "ingest_timeout", "soon", "A time is a number and its unit"),
    ("ingest-hr", "ingest_memory", "64", "A run needs at least 128 MB."),
    ("dag-sync", "environments", '["A b"]', "An environment is lower-case letters"),
    ("restore-drill", "b2_bucket", "under_score", "A bucket's name is 6 to 63 letters"),
]  # fmt: skip
# What must not be refused: the neighbours of the above.
ACCEPTED = [
    ("redis", "redis_image", "redis@sha256:" + "0a" * 32),
    ("redis", "redis_image", "registry.test:5000/redis:latest-2026"),
    ("redis", "environment", "staging-2"),
    ("redis", "redis_port", "65535"),
    ("airflow-webserver", "airflow_url", "https://airflow.example.org"),
    ("airflow-webserver", "airflow_url", "https://example.org/airflow"),
    ("airflow-webserver", "proxy_addresses", "10.0.0.2,10.1.0.0/24,fd00::1"),
    ("airflow-webserver", "push_hook", "true"),
    ("airflow-scheduler", "failure_webhook", "true"),
    ("airflow-migrate", "ca_certificates", json.dumps([PEM, PEM.strip()])),
    ("redis", "redis_tls", "true"),
    ("ingest-hr", "dag_mirror_login", "true"),
    ("airflow-worker-analysts", "redis_address", "redis.service.example.org:6379"),
    ("dag-sync", "analysts_remote", "ssh://git@git.example.org/analytics/dags.git"),
    ("dag-sync", "analysts_remote", "https://git.example.org:8443/analytics/dags.git"),
    ("dag-sync", "forge", "gitea"),
    ("dag-sync", "author_mail_domains", '["school.example", "it.school.example"]'),
    ("dag-sync", "refusal_chat", "true"),
    ("dag-sync", "forge_url", "https://git.example.org/api/v1/repos/school/dags"),
    ("backup-hr", "b2_realm", "production"),
    ("backup-coverage", "recovery_fingerprint", "0A" * 20),
]


@pytest.mark.programs
@pytest.mark.parametrize(("job_id", "variable", "value", "message"), REFUSED)
def test_a_bad_value_is_refused(job_id: str, variable: str, value: str, message: str) -> None:
    done = output(DEPLOYMENTS[job_id], **{variable: value})
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())


@pytest.mark.programs
@pytest.mark.parametrize(("job_id", "variable", "value"), ACCEPTED)
def test_a_good_value_is_taken(job_id: str, variable: str, value: str) -> None:
    done = output(DEPLOYMENTS[job_id], **{variable: value})
    assert done.returncode == 0, done.stderr


@pytest.mark.programs
def test_an_empty_text_is_refused() -> None:
    """It is what an unset variable of a shell becomes."""
    texts = {
        name: job_id
        for job_id, each in DEPLOYMENTS.items()
        for name, body in declared(each.file).items()
        if body["type"] == "string" and "validation" in body
    }
    assert texts
    for variable, job_id in texts.items():
        done = output(DEPLOYMENTS[job_id], **{variable: ""})
        assert done.returncode != 0, variable
        assert f"{variable} " in done.stderr or "validation rule" in done.stderr, variable


def test_every_image_variable_is_among_those_tried() -> None:
    assert {variable for _, variable, _, why in REFUSED if why == PINNED} == set(IMAGES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_is_typed_and_described(file: Path) -> None:
    for name, body in declared(file).items():
        assert body.get("type"), name
        assert re.fullmatch(r'".{10,}"', body.get("description", "")), name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_variable_is_validated(file: Path) -> None:
    unchecked = {name for name, body in declared(file).items() if "validation" not in body}
    assert not unchecked


def test_the_same_variable_is_declared_the_same_way_in_every_file() -> None:
    seen: dict[str, dict[str, Any]] = {}
    for file in FILES:
        for name, body in declared(file).items():
            assert seen.setdefault(name, body) == body, f"{name} in {file.name}"


@pytest.mark.parametrize("variables", VARIABLE_FILES, ids=lambda path: path.name)
def test_every_value_of_an_environment_is_declared_by_some_job(variables: Path) -> None:
    known = {name for file in FILES for name in declared(file)}
    assert set(read_variables(variables)) <= known


@pytest.mark.parametrize("variables", VARIABLE_FILES, ids=lambda path: path.name)
def test_an_environment_sets_every_variable_without_a_default(variables: Path) -> None:
    wanted = {
        name
        for file in ROOT.glob("nomad/jobs/*.hcl")
        for name, body in declared(file).items()
        if "default" not in body
    }
    missing = wanted - set(read_variables(variables)) - GIVEN_BY_DEPLOY - set(IMAGES)
    assert not missing


@pytest.mark.programs
@pytest.mark.parametrize("variables", VARIABLE_FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("job_id", PLATFORM)
def test_every_job_renders_in_every_environment(job_id: str, variables: Path) -> None:
    assert rendered(job_id, variables)["ID"] == job_id


@pytest.mark.parametrize("variables", VARIABLE_FILES, ids=lambda path: path.name)
def test_a_file_of_variables_holds_no_secret(variables: Path) -> None:
    for name, value in read_variables(variables).items():
        assert not re.search(r"password|secret|token|_key$", name), name
        assert not re.search(r"://[^/\s:@]*:[^/\s@]+@", str(value)), name

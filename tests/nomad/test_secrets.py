"""No secret stands in a job: each comes by a template into a file that only its task can read."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.nomad.rendering import (
    DEPLOYMENTS,
    every_job,
    output,
    platform_job,
    rendered,
    runs_as,
    tasks,
    templates,
)

SECRETS_DIR = "${NOMAD_SECRETS_DIR}/"
# A word like those that key generators make: long, with digits, capitals and small letters.
RANDOM_WORD = re.compile(r"(?=\w*\d)(?=\w*[A-Z])(?=\w*[a-z])[\w+=-]{20,}")
CREDENTIALS = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
SECRET_NAME = re.compile(
    r"PASSWORD|PASSPHRASE|SECRET(?!S_)|TOKEN|FERNET|PRIVATE|CREDENTIAL|_URI$|_CONN$|BROKER_URL|_KEY$"
)
# Names of keys in Redis, and the fingerprint of one in OpenPGP, not keys.
NO_SECRETS = {
    "BACKUP_RECOVERY_KEY",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_KEY",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_INDEX_KEY",
    "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__UNACKED_MUTEX_KEY",
}


def _without_templates(job_id: str) -> str:
    """Return all of a job but its templates and the names of its ids, as text."""
    job = json.loads(json.dumps(rendered(job_id)))
    for group in job["TaskGroups"]:
        for task in group["Tasks"]:
            task["Templates"] = None
    return json.dumps(job).replace("\\", "")


@every_job
def test_no_value_outside_the_templates_looks_like_a_secret(job_id: str) -> None:
    text = _without_templates(job_id)
    assert not CREDENTIALS.findall(text)
    for task in tasks(job_id):
        for name, value in (task["Env"] or {}).items():
            for word in re.findall(r"[\w+=-]+", value):
                assert not RANDOM_WORD.fullmatch(word), f"{task['Name']}: {name} holds {word}"


@every_job
def test_a_variable_with_a_secrets_name_only_says_which_file_holds_it(job_id: str) -> None:
    for task in tasks(job_id):
        files = {_file(each) for each in templates(task)}
        files |= {f"nomad_{each['Name']}.jwt" for each in task["Identities"] or []}
        for name, value in (task["Env"] or {}).items():
            where = f"{task['Name']}: {name} = {value}"
            if name.endswith("_CMD"):
                assert value.startswith(("cat /secrets/", "cat /run/airflow/")), where
            elif SECRET_NAME.search(name) and name not in NO_SECRETS:
                assert value.startswith("/secrets/") or name.endswith("_FILE"), where
            for file in re.findall(r"/(?:secrets|run/airflow)/([\w.-]+)", value):
                assert file in files, f"{where}, and no template or identity writes it"


def _file(template: dict[str, Any]) -> str:
    return template["DestPath"].removeprefix(SECRETS_DIR)  # type: ignore[no-any-return]


@every_job
def test_a_template_writes_a_file_that_only_its_task_can_read(job_id: str) -> None:
    for task in tasks(job_id):
        user = int(runs_as(task).split(":")[0].replace("root", "0"))
        for template in templates(task):
            where = f"{task['Name']}: {template['DestPath']}"
            assert template["DestPath"].startswith(SECRETS_DIR), where
            assert "/" not in _file(template), where
            assert template["Perms"] == "0400", where
            assert (template["Uid"] or 0) == user, where
            assert template["ErrMissingKey"] is True, where
            assert not template["Envvars"], where


@every_job
def test_what_a_command_reads_is_one_line(job_id: str) -> None:
    """``_CMD`` keeps a line's end, and a password with one is another password."""
    for task in tasks(job_id):
        commands = "".join(
            value for name, value in (task["Env"] or {}).items() if name.endswith("_CMD")
        )
        for template in templates(task):
            if f"/secrets/{_file(template)}" in commands:
                assert "\n" not in template["EmbeddedTmpl"]


@platform_job
def test_a_process_that_stays_starts_again_when_its_secret_changes(job_id: str) -> None:
    for task in tasks(job_id):
        passing = rendered(job_id)["Type"] == "batch" or task["Lifecycle"] is not None
        for template in templates(task):
            secret = "with secret" in template["EmbeddedTmpl"]
            wanted = "restart" if secret and not passing else "noop"
            assert template["ChangeMode"] == wanted, task["Name"]


@every_job
def test_vaults_token_is_not_in_the_environment(job_id: str) -> None:
    for task in tasks(job_id):
        if task["Vault"]:
            assert task["Vault"]["Env"] is False, task["Name"]
        assert bool(templates(task)) == bool(task["Vault"]), f"{task['Name']}: a role for nothing"
        for identity in [*(task["Identities"] or []), task["Identity"]]:
            assert identity is None or not identity["Env"], task["Name"]


@pytest.mark.programs
def test_the_forges_token_is_for_the_task_that_publishes_alone() -> None:
    url = "https://git.example.org/api/v1/repos/school/dags"
    done = output(DEPLOYMENTS["dag-sync"], forge="gitea", forge_url=url)
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
    by_name = {task["Name"]: task for task in group["Tasks"]}
    publish = by_name["publish"]
    assert publish["Vault"]["Role"] == "local-dag-sync-status"
    (template,) = publish["Templates"]
    assert "secret/data/local/delivery/forge" in template["EmbeddedTmpl"]
    assert template["Perms"] == "0400"
    assert by_name["judge"]["Vault"] is None
    assert "delivery/forge" not in json.dumps([by_name["fetch"], by_name["judge"]])


@pytest.mark.programs
def test_the_web_server_has_an_identity_only_where_a_git_server_may_call() -> None:
    for given in ("true", "false"):
        done = output(DEPLOYMENTS["airflow-webserver"], push_hook=given)
        assert done.returncode == 0, done.stderr
        (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
        (task,) = [each for each in group["Tasks"] if each["Name"] == "webserver"]
        shown = [each for each in task["Identities"] or [] if each["File"]]
        shown += [each for each in [task["Identity"]] if each and each["File"]]
        secrets = [each for each in task["Templates"] if "push-hook" in each["EmbeddedTmpl"]]
        assert len(shown) == len(secrets) == (given == "true")
        assert all(each["Perms"] == "0400" for each in secrets)


@pytest.mark.programs
def test_the_scheduler_has_the_failures_webhook_only_where_it_is_asked_for() -> None:
    for given in ("true", "false"):
        done = output(DEPLOYMENTS["airflow-scheduler"], failure_webhook=given)
        assert done.returncode == 0, done.stderr
        (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
        (task,) = [each for each in group["Tasks"] if each["Name"] == "scheduler"]
        secrets = [each for each in task["Templates"] if "airflow/alerts" in each["EmbeddedTmpl"]]
        assert [each["Perms"] for each in secrets] == ["0400"] * (given == "true")
        file = "/secrets/failure_webhook" if given == "true" else ""
        assert task["Env"]["FAILURE_WEBHOOK_FILE"] == file


@pytest.mark.programs
def test_the_mail_server_is_for_the_task_that_publishes_alone() -> None:
    done = output(DEPLOYMENTS["dag-sync"], author_mail_domains='["school.example"]')
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
    by_name = {task["Name"]: task for task in group["Tasks"]}
    (template,) = by_name["publish"]["Templates"]
    assert "secret/data/local/delivery/mail" in template["EmbeddedTmpl"]
    assert by_name["publish"]["Env"]["DELIVERY_MAIL_DOMAINS"] == "school.example"
    assert "delivery/mail" not in json.dumps([by_name["fetch"], by_name["judge"]])


@pytest.mark.programs
def test_the_webhook_of_the_chat_is_for_the_task_that_publishes_alone() -> None:
    done = output(DEPLOYMENTS["dag-sync"], refusal_chat="true")
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
    by_name = {task["Name"]: task for task in group["Tasks"]}
    (template,) = by_name["publish"]["Templates"]
    assert "secret/data/local/delivery/chat" in template["EmbeddedTmpl"]
    assert template["Perms"] == "0400"
    assert "delivery/chat" not in json.dumps([by_name["fetch"], by_name["judge"]])


@pytest.mark.programs
def test_a_remote_on_https_needs_a_login_and_no_key() -> None:
    done = output(DEPLOYMENTS["dag-sync"], analysts_remote="https://git.example.org/dags.git")
    assert done.returncode == 0, done.stderr
    (group,) = json.loads(done.stdout)["Job"]["TaskGroups"]
    by_name = {task["Name"]: task for task in group["Tasks"]}
    written = {_file(each): each for each in by_name["fetch"]["Templates"]}
    assert set(written) == {"git_config", "alerts"}
    assert written["git_config"]["Perms"] == "0400"
    assert "secret/data/local/delivery/remote" in written["git_config"]["EmbeddedTmpl"]
    assert "delivery/remote" not in json.dumps([by_name["judge"], by_name["publish"]])

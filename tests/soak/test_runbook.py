"""The blocks of docs/runbook.md that no other test types, as they stand there, on the platform.

An example's names and addresses are replaced by this machine's: see HERE.
"""

from __future__ import annotations

import json
import os
import pty
import re
import secrets
import shutil
import subprocess
import sys
import termios
import textwrap
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from backup.bucket.catalogue import open_catalogue
from scripts import jobs, launches, status
from scripts.access import JOBS, RUNS, Access
from scripts.cluster import NomadError
from scripts.health.waiting import wait
from scripts.local import agents, backblaze, credentials, databases
from scripts.local.first_run import Checkout, is_parsed
from scripts.local.home import (
    ADDRESS,
    ENVIRONMENT,
    IMAGE_VARIABLES,
    NOMAD_ADDR,
    VAULT_ADDR,
    VOLUMES,
)
from scripts.local.images import LABEL, ensure_base
from scripts.local.up import VARIABLE_FILES
from scripts.repository import ROOT, SECRETS, read_secret, write_private
from scripts.variables import read_variables
from tests.conftest import started_server
from tests.e2e.conftest import models, platform
from tests.e2e.contents import contents
from tests.e2e.rounds import START_SECONDS, ended, trigger, wait_until
from tests.pages import block, desk, filled

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.pages import Desk

__all__ = ["models", "platform"]

pytestmark = [pytest.mark.soak, pytest.mark.usefixtures("models")]

# What the page's examples call a cluster's, and this machine's.
HERE = {
    "production/": f"{ENVIRONMENT}/",
    "--environment production": f"--environment {ENVIRONMENT}",
    "production-": f"{ENVIRONMENT}-",
    "https://nomad.example.org:4646": NOMAD_ADDR,
    "https://vault.example.org:8200": VAULT_ADDR,
    "-var-file=nomad/vars/production.hcl": " ".join(f"-var-file={each}" for each in VARIABLE_FILES),
    "--var-file nomad/vars/production.hcl": " ".join(
        f"--var-file {each}" for each in VARIABLE_FILES
    ),
    "VARS=nomad/vars/production.hcl": f"VARS='{' '.join(map(str, VARIABLE_FILES))}'",
    "BACKUP_B2_REALM=production": f"BACKUP_B2_REALM={backblaze.REALM}",
    "BACKUP_BUCKET=example-harmattan-backups": f"BACKUP_BUCKET={backblaze.BUCKET}",
    "BACKUP_PREFIX=production": f"BACKUP_PREFIX={ENVIRONMENT}",
}
LAUNCH_SECONDS = 600


def here(text: str, **values: str) -> str:
    """Return ``text`` with this machine's names, and with ``values``, all of which it has."""
    text = filled(text, values)
    return filled(text, {example: own for example, own in HERE.items() if example in text})


@pytest.fixture
def typing(tmp_path: Path) -> Iterator[Desk]:
    """A desk of the platform team on this machine, with the management tokens of Vault's owner."""
    start, cluster = block("Runbook", 0).split("# A cluster")
    _, newest = cluster.split("\n\n")
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "VAULT_ADDR": VAULT_ADDR,
        "VAULT_TOKEN": read_secret("vault")["root_token"],
        "AIRFLOW_URL": f"http://{ADDRESS}:8080",
    }  # fmt: skip
    with desk(ROOT, tmp_path, environment) as made:
        made.type(start)
        made.type(newest)
        yield made


def manage(typing: Desk) -> None:
    """Take the management token, where the page asks for one."""
    typing.type("export NOMAD_TOKEN=$(scripts/show.py nomad-bootstrap)")


def is_well(platform: Access) -> None:
    """Wait until all jobs are well, and see that the rest is."""
    wait(platform.nomad, [each.id for each in jobs.platform()], timeout=START_SECONDS)
    platform.__dict__.pop("_airflow_token", None)
    wait_until(lambda: status.gather(platform).well, "everything to be well", 300)


def launch(platform: Access, typing: Desk, text: str) -> str:
    """Type ``text`` line by line, wait for what each launched, and return what is shown."""
    names = platform.namespaces
    places = (platform, Access({**platform.values, JOBS: names.runs, RUNS: names.jobs}))
    said = ""
    for line in text.splitlines():
        before = [launched(place) for place in places]
        said += typing.type(line)
        for place, known in zip(places, before, strict=True):
            for child in launched(place) - known:
                launches.finish(place, child, timeout=LAUNCH_SECONDS)
    return said


def launched(platform: Access) -> set[str]:
    """Return the launches of periodic and parameterised jobs that Nomad knows."""
    return {each["ID"] for each in platform.nomad.jobs.get_jobs() if "/" in each["ID"]}


def allocation(platform: Access, job: str) -> str:
    (running,) = (
        each["ID"]
        for each in platform.nomad.job.get_allocations(job)
        if each["ClientStatus"] == "running"
    )
    return str(running)


def vault(path: str) -> dict[str, str]:
    """Return what Vault holds for this platform."""
    answer = agents.vault_client().secrets.kv.v2.read_secret_version(
        f"{ENVIRONMENT}/{path}", mount_point=credentials.MOUNT, raise_on_deleted_version=True
    )
    return dict(answer["data"]["data"])


def forget(*paths: str) -> None:
    for path in paths:
        agents.vault_client().secrets.kv.v2.delete_metadata_and_all_versions(
            f"{ENVIRONMENT}/{path}", mount_point=credentials.MOUNT
        )


# -- Looking


def test_how_it_is_is_seen(platform: Access, typing: Desk) -> None:
    is_well(platform)
    text = block("See how it is", 0)
    said = typing.type(filled(text, {"ALLOC": allocation(platform, "airflow-scheduler")}))
    assert "✗" not in said
    assert '"well": true' in said
    for part in ("dag-sync/periodic-", "Recent Events", "Task Group"):
        assert part in said


def test_a_cluster_is_asked_by_its_addresses(platform: Access, typing: Desk) -> None:
    is_well(platform)
    # Another address of the same Nomad, so that it is not this machine's own platform.
    typing.type("export NOMAD_ADDR=http://127.0.0.1:4646")
    said = typing.type(
        here(
            block("See how it is", 1),
            **{
                " VAULT_CACERT=…": "",
                "https://airflow.example.org": f"http://{ADDRESS}:8080",
                "AIRFLOW_USERNAME=…": "AIRFLOW_USERNAME=admin",
                "AIRFLOW_PASSWORD=…": "AIRFLOW_PASSWORD=$(scripts/show.py airflow-admin)",
                "git://node-1.example.org:9418": str(platform.values["DAG_MIRROR_URL"]),
                "BACKUP_SECRETS_DIR=…": f"BACKUP_SECRETS_DIR={SECRETS / 'backups'}",
            },
        )
    )
    assert "airflow-scheduler" in said
    assert "✗" not in said


def test_old_rows_of_airflows_database_are_deleted_now(platform: Access, typing: Desk) -> None:
    with psycopg.connect(databases.superuser("airflow"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO log (dttm, event) VALUES (now() - interval '100 days', 'old')"
        )
    said = launch(platform, typing, block("What Airflow's database keeps", 0))
    assert re.search(r"\blog\b.* 1\b", said), said


def test_a_secret_of_airflows_own_database_moves_to_vault(platform: Access, typing: Desk) -> None:
    made: dict[str, Any] = {"connection_id": "moved_api_key", "conn_type": "http", "host": "h"}
    platform.airflow("connections", method="POST", json=made)
    platform.airflow("variables", method="POST", json={"key": "moved_api_key", "value": "v"})
    assert [row.well for row in status.secrets(platform)] == [False, False]
    try:
        typing.type(
            """
            account='{"username": "admin", "password": "'$(scripts/show.py airflow-admin)'"}'
            TOKEN=$(curl -fsS -H 'Content-Type: application/json' -d "$account" \\
              "$AIRFLOW_URL/auth/token" | jq -r .access_token)
            """
        )
        text = here(block("A secret in Airflow's own database", 0), **{"/NAME": "/moved_api_key"})
        typing.type(text, given="http://moved.example.org")
        assert vault("connections/analysts/moved_api_key") == {
            "conn_uri": "http://moved.example.org"
        }
        assert all(row.well for row in status.secrets(platform))
    finally:
        forget("connections/analysts/moved_api_key")
        for path in ("connections/moved_api_key", "variables/moved_api_key"):
            with suppress(requests.RequestException):  # deleted already, as it should be
                platform.airflow(path, method="DELETE")


def test_what_is_covered_is_seen(platform: Access, typing: Desk) -> None:
    said = launch(platform, typing, block("See what is covered", 0))
    for name in ("postgres_globals", "hr", "warehouse", "vault"):
        assert name in said


def test_a_push_that_was_judged_is_looked_at_and_judged_again(
    platform: Access, typing: Desk
) -> None:
    again = block("A push that the gate refused", 1)
    verdict = VOLUMES / "dag-mirror/verdict.json"
    launch(platform, typing, again)
    wait_until(verdict.exists, "the verdict", LAUNCH_SECONDS)
    assert json.loads(verdict.read_text())["verdict"] == "sound"
    newest = typing.type("newest dag-sync 2>/dev/null").strip()
    said = typing.type(filled(block("A push that the gate refused", 0), {"LAUNCH": newest}))
    assert newest in said


def test_live_is_held_at_an_earlier_push_and_let_go(platform: Access, typing: Desk) -> None:
    live = json.loads((VOLUMES / "dag-mirror/verdict.json").read_text())["commit"]
    manage(typing)
    text = filled(block("A push that the gate refused", 2), {"COMMIT": live})
    history, pin, unpin = text.splitlines()
    assert live[:7] in typing.type(history)
    typing.type(pin)
    assert "counts pupils twice" in typing.type(history)
    typing.type(unpin)
    assert "counts pupils twice" not in typing.type(history)


# -- Starting again


def test_one_job_is_restarted_in_place_and_in_a_new_allocation(
    platform: Access, typing: Desk
) -> None:
    before = allocation(platform, "airflow-scheduler")
    in_place, new = block("Restart", 0).splitlines()
    typing.type(in_place)
    assert allocation(platform, "airflow-scheduler") == before
    typing.type(new)
    assert allocation(platform, "airflow-scheduler") != before
    is_well(platform)


def test_all_jobs_are_restarted(platform: Access, typing: Desk) -> None:
    typing.type(block("Restart", 1))
    is_well(platform)
    assert ended(platform, trigger(platform, "school_report")) == "success"


def test_the_machine_goes_down_and_comes_up(platform: Access, typing: Desk) -> None:
    typing.type(block("Restart", 2))
    is_well(platform)


def test_a_node_is_drained_and_comes_back(platform: Access, typing: Desk) -> None:
    manage(typing)
    (node,) = (each["ID"] for each in platform.nomad.nodes.get_nodes())
    drain, back = block("Restart", 3).split("# reboot; then\n")
    typing.type(filled(drain, {"NODE": node}))
    left = [
        each["JobID"]
        for each in platform.nomad.allocations.get_allocations()
        if each["ClientStatus"] == "running"
    ]
    assert left == []
    typing.type(filled(back, {"NODE": node}))
    wait(platform.nomad, [each.id for each in jobs.stand_ins()], timeout=START_SECONDS)
    is_well(platform)


# -- Upgrade and dashboards


def test_an_upgrade_is_backed_up_planned_and_deployed(platform: Access, typing: Desk) -> None:
    assert "complete" in launch(platform, typing, block("Upgrade", 0))
    # Its exit code is 1 where something would change.
    said = typing.type(here(block("Upgrade", 1)), may_fail=True)
    assert 'Job: "airflow-scheduler"' in said
    typing.type(here(block("Upgrade", 2), **{"\nmake status": "\nenv -u NOMAD_ADDR make status"}))


def test_names_of_before_are_removed_and_those_of_the_environment_stay(
    platform: Access, typing: Desk
) -> None:
    client = agents.vault_client()
    kept = set(client.list("auth/jwt-nomad/role")["data"]["keys"])
    old = {"airflow-scheduler", "backup-hr", "ingest-hr", "redis", "dag-sync"}
    for name in old:
        client.sys.create_or_update_policy(name, 'path "old/*" { capabilities = ["read"] }')
        role = {"role_type": "jwt", "bound_audiences": ["a"], "user_claim": "sub"}
        client.write_data(
            f"auth/jwt-nomad/role/{name}", data={**role, "bound_claims": {"sub": name}}
        )
    manage(typing)
    before = {"platform", "analysts", "dag-sync-publish", "backup-nomad", "runs"}
    for name in before:
        typing.type(f"echo 'namespace \"old\" {{}}' | nomad acl policy apply {name} -")
    typing.type(block("Upgrade", 3))
    assert set(client.list("auth/jwt-nomad/role")["data"]["keys"]) == kept
    assert not old & set(client.sys.list_policies()["data"]["policies"])
    assert kept <= set(client.sys.list_policies()["data"]["policies"])
    policies = {each["Name"] for each in agents.nomad_client(bootstrap()).acl.get_policies()}
    assert not before & policies
    assert "local-platform" in policies


def bootstrap() -> str:
    return str(read_secret("nomad-bootstrap"))


def test_a_dashboard_is_exported_and_delivered_again(
    platform: Access, typing: Desk, tmp_path: Path
) -> None:
    text = filled(block("Dashboards", 0), {":/tmp/dashboards .": f":/tmp/dashboards {tmp_path}"})
    typing.type(text)
    assert list((tmp_path / "dashboards").rglob("*.yaml"))
    is_well(platform)


# -- Rotation and Vault


def test_the_fernet_key_is_rotated(platform: Access, typing: Desk) -> None:
    manage(typing)
    old = vault("airflow/fernet")["key"]
    typing.type(here(block("Fernet key", 0)))
    new = vault("airflow/fernet")["key"]
    assert new != old
    assert "," not in new
    # Where `make up` has it from.
    write_private(SECRETS / "airflow-fernet.json", json.dumps(new))
    is_well(platform)


def test_vault_and_nomad_are_set_up_again(platform: Access, typing: Desk) -> None:
    jwks = "https://nomad.example.org:4646/.well-known"
    text = block("Vault", 0)
    token = read_secret("vault")["root_token"]
    said = typing.type(here(text, **{"VAULT_TOKEN=…": f"VAULT_TOKEN={token}"}))
    assert jwks.replace("https://nomad.example.org:4646", NOMAD_ADDR) not in said
    assert "policy and role local-airflow-scheduler" in said
    said = typing.type(here(block("Nomad", 0), **{"NOMAD_TOKEN=…": f"NOMAD_TOKEN={bootstrap()}"}))
    assert said.count("Secret ID") == 2
    nomad = agents.nomad_client(bootstrap())
    made = [each for each in nomad.acl.get_tokens() if each["Name"] in {"platform", "analysts"}]
    for each in sorted(made, key=lambda token: token["CreateIndex"])[-2:]:
        nomad.acl.delete_token(each["AccessorID"])
    is_well(platform)


def test_jobs_of_one_file_are_run_by_hand(platform: Access, typing: Desk) -> None:
    typing.type(here(block("Nomad", 1)))
    is_well(platform)


def test_a_hash_key_is_made_and_columns_are_hashed_by_it(platform: Access, typing: Desk) -> None:
    before = vault("connections/ingest/hash_key/hr")
    try:
        typing.type(here(block("Pipelines: what happened, and again", 1)))
        assert re.fullmatch(r"generic://:[0-9a-f]{64}@hash", vault(HASH_KEY)["conn_uri"])
        assert vault(HASH_KEY) != before
        assert ended(platform, trigger(platform, "ingest_hr")) == "success"
    finally:
        credentials.write({HASH_KEY: before})
    assert ended(platform, trigger(platform, "ingest_hr")) == "success"


HASH_KEY = "connections/ingest/hash_key/hr"


def test_alerts_and_logins_are_written_to_vault(typing: Desk) -> None:
    alerts = vault("backup/alerts")
    try:
        typing.type(
            here(block("Alerts of backups", 0), **{"webhook=…": "webhook=http://127.0.0.1"})
        )
        assert vault("backup/alerts")["webhook"] == "http://127.0.0.1"
    finally:
        credentials.write({"backup/alerts": alerts})
    typing.type(here(block("Alerts of pipelines", 0)))
    typing.type(f"export TOKEN=token\n{here(block('TLS', 1))}")
    paths = ("connections/ingest/alerts_webhook", "connections/ingest/smtp_default")
    assert all(vault(path)["conn_uri"] for path in paths)
    assert vault("delivery/mirror") == {"username": "harmattan", "token": "token"}
    forget(*paths, "delivery/mirror")


def test_redis_has_a_certificate_of_an_authority_of_ones_own(typing: Desk, tmp_path: Path) -> None:
    typing.type(f"cd {tmp_path}\n{here(block('TLS', 0))}")
    typing.type("openssl verify -CAfile ca.pem -verify_ip 10.0.0.12 redis.pem")
    kept = vault("redis/tls")
    assert kept["certificate"].strip() == (tmp_path / "redis.pem").read_text().strip()
    assert "PRIVATE KEY" in kept["key"]
    assert not (tmp_path / "redis.key").exists()
    forget("redis/tls")


def test_the_buckets_rules_are_applied_and_shown(typing: Desk) -> None:
    master = read_secret("b2-master")
    key = json.dumps({"key_id": master["key_id"], "key": master["key"]})
    typing.type(here(block("B2", 0)), given=key)


# -- Restoring and proving


@pytest.fixture
def restoring(typing: Desk, tmp_path: Path) -> Iterator[Path]:
    """The page's folder for a restore, with this machine's settings of the bucket in the desk."""
    folder = tmp_path / "restore"
    settings, _, production, _ = block("Restore a database", 0).split("\n\n")
    typing.type(filled(settings, {"/srv/restore": str(folder)}))
    typing.type(here(production))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def image(name: str) -> str:
    """Return the image that `make up` built."""
    return str(read_variables(IMAGE_VARIABLES)[f"{name}_image"])


IMAGE = "registry.example.org/harmattan/backup@sha256:…"
TARGET = "postgresql://postgres:PASSWORD@HOST:5432/hr_restored"


def restored(typing: Desk, platform: Access) -> None:
    """Choose, look and restore as the page does, and hold the rows against the source's."""
    newest = launched_backup(platform, "hr")
    text = filled(
        block("Restore a database", 4),
        {
            "backup show ID": f"backup show {newest}",
            "backup verify ID": f"backup verify {newest}",
            TARGET: databases.superuser("hr_restored"),
        },
    )
    try:
        assert newest in typing.type(text)
        assert contents("hr_restored", "public") == contents("hr", "public")
    finally:
        with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS hr_restored WITH (FORCE)")


def launched_backup(platform: Access, database: str) -> str:
    """Back ``database`` up and return the backup's id."""
    launches.finish(platform, launches.force(platform, f"backup-{database}"), timeout=300)
    with open_catalogue(platform.backups) as catalogue:
        return catalogue.backups(database)[-1].id


@pytest.mark.usefixtures("restoring")
def test_a_database_is_restored_at_a_desk(platform: Access, typing: Desk) -> None:
    typing.type(block("Restore a database", 2))
    restored(typing, platform)


def test_a_database_is_restored_by_the_image_alone(
    platform: Access, typing: Desk, restoring: Path
) -> None:
    in_docker(typing, restoring)
    restored(typing, platform)


def in_docker(typing: Desk, restoring: Path) -> None:
    """Let ``backup`` at the desk be the image's."""
    text = filled(block("Restore a database", 3), {IMAGE: image("backup")})
    typing.type(text.replace("/srv/restore", str(restoring)))


def at_a_terminal(script: str, at: Path, answers: Iterator[str]) -> None:
    """Run ``script`` at a terminal of its own, and answer each question for a passphrase."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(at)
        os.execvp("bash", ["bash", "-e", "-c", script])  # noqa: S606 - at that terminal
    shown, unanswered = "", ""
    with suppress(OSError):  # as a terminal ends
        while said := os.read(terminal, 4096).decode():
            shown, unanswered = shown + said, unanswered + said
            if unanswered.rstrip(" \b").endswith("passphrase:"):
                while termios.tcgetattr(terminal)[3] & termios.ECHO:
                    time.sleep(0.05)  # as it is hidden, what was typed before is forgotten
                os.write(terminal, f"{next(answers)}\n".encode())
                unanswered = ""
    assert os.waitpid(child, 0)[1] == 0, shown


def test_all_is_lost_but_the_recovery_key_with_its_passphrase(
    platform: Access, typing: Desk, restoring: Path
) -> None:
    usb = restoring / "usb"
    usb.mkdir()
    (usb / "recovery.asc").write_text(credentials.gpg_key("recovery")["private"])
    (usb / "signers.json").write_text(json.dumps(credentials.signers()))
    phrase = secrets.token_urlsafe(12)
    fingerprint = credentials.recovery_fingerprint()
    gpg = f"gpg --batch --pinentry-mode loopback --homedir {usb}/home"
    typing.type(
        f"mkdir {usb}/home; {gpg} --import {usb}/recovery.asc\n"
        f"{gpg} --export-secret-keys {fingerprint} > {usb}/plain\n"
    )
    change = f"gpg --homedir {usb}/home --pinentry-mode loopback --change-passphrase {fingerprint}"
    at_a_terminal(change, usb, repeat(phrase))
    typing.type(
        f"{gpg} --passphrase {phrase} --armor --export-secret-keys {fingerprint}"
        f" > {usb}/recovery-private.asc; gpgconf --homedir {usb}/home --kill all"
    )
    key = read_secret(backblaze.key_file("drill"))
    lost = block("Restore a database", 0).split("\n\n")[3]
    typing.type(
        filled(
            lost,
            {
                '"key_id": "…", "key": "…"': f'"key_id": "{key["key_id"]}", "key": "{key["key"]}"',
                "/media/usb": str(usb),
            },
        )
    )
    secrets_dir = restoring / "secrets"
    (secrets_dir / "drill_key.asc").unlink()
    without = filled(block("Restore a database", 1), {"FINGERPRINT": fingerprint})
    at_a_terminal(
        f"export BACKUP_SECRETS_DIR={secrets_dir}\n{without}", usb, chain([phrase], repeat(""))
    )
    typing.type(block("Restore a database", 2))
    restored(typing, platform)


@pytest.mark.usefixtures("platform")
def test_the_roles_of_a_server_come_to_another(typing: Desk, restoring: Path) -> None:
    typing.type(block("Restore a database", 2))
    text = block("Restore a database", 6).replace("/srv/restore", str(restoring))
    with started_server() as server:
        typing.type(f"export SUPERUSER_URI={server.uri()}")
        typing.type(text)
        with psycopg.connect(server.uri()) as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM pg_roles WHERE rolname IN ('hr_owner', 'bi')"
            ).fetchone() or (0,)
    assert count == 2


@pytest.mark.usefixtures("restoring")
def test_vault_and_nomad_are_restored(platform: Access, typing: Desk, restoring: Path) -> None:
    is_well(platform)
    manage(typing)
    typing.type(block("Restore a database", 2))
    for name in ("vault", "nomad"):
        launched_backup(platform, name)
    typing.type(filled(block("Restore Vault or Nomad", 0), {"/srv/restore": str(restoring)}))
    is_well(platform)
    assert ended(platform, trigger(platform, "ingest_hr")) == "success"


def test_drills_are_held_now(platform: Access, typing: Desk) -> None:
    now = (datetime.now(UTC) + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M")
    text = filled(block("Hold a drill", 0), {"at=2026-11-20": f"at={now}"})
    said = launch(platform, typing, text)
    assert said.count("equal") > 9
    assert "different" not in said


def test_a_drill_is_held_by_hand(platform: Access, typing: Desk, restoring: Path) -> None:
    launched_backup(platform, "hr")
    in_docker(typing, restoring)
    text = filled(
        block("Hold a drill", 1), {IMAGE: image("backup"), "/srv/restore": str(restoring)}
    )
    try:
        assert "equal" in typing.type(text)
    finally:
        typing.type("docker rm --force scratch-server", may_fail=True)


# -- SQL


def test_what_happened_to_pipelines_is_asked(platform: Access) -> None:
    asked = block("Pipelines: what happened, and again", 0)
    with psycopg.connect(databases.superuser("warehouse")) as connection:
        counts = [
            len(connection.execute(each.encode()).fetchall())
            for each in re.sub("--.*", "", asked).split(";")
            if each.strip()
        ]
    assert len(counts) == 6
    assert counts[0] > 0
    assert counts[4] > 0


@pytest.mark.usefixtures("platform")
def test_roles_are_made_with_what_they_need(typing: Desk, tmp_path: Path) -> None:
    """On a server that has what is there before, in the order of the page."""
    before = {
        "hr": "CREATE ROLE hr_owner; CREATE TABLE staff (id int);"
        " ALTER TABLE staff OWNER TO hr_owner",
        "airflow": "CREATE ROLE airflow_migrate; CREATE ROLE airflow_scheduler",
        "warehouse": "CREATE ROLE warehouse_analyst; CREATE ROLE marts_builder; CREATE ROLE bi;"
        " CREATE SCHEMA marts; CREATE SCHEMA marts_build",
    }
    grants = block("Databases", 1).split("-- B;")
    after = {
        "hr": f"{block('Databases', 0)}\n--{grants[1]}",
        "airflow": grants[0],
        "warehouse": block("Databases", 2),
    }
    with started_server() as server:
        for name, statements in before.items():
            with psycopg.connect(server.uri(), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}".encode())
            with psycopg.connect(server.uri(name), autocommit=True) as connection:
                connection.execute(statements.encode())
                connection.execute(after[name].encode())
        with psycopg.connect(server.uri("hr")) as connection:
            connection.execute("SET ROLE hr_ingest")
            connection.execute("SELECT * FROM staff")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("DELETE FROM staff")


# -- A source more, and bounds


def copied(folder: Path) -> Path:
    """Copy this repository, so that its files can be changed; tools and platform are the same."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for name in (".venv", ".tools", ".local"):
        (folder / name).symlink_to(ROOT / name)
    return folder


LIBRARY_URI = "postgresql://{}:{}@" + f"{ADDRESS}:15432/library"


@pytest.fixture
def library(platform: Access, typing: Desk, tmp_path: Path) -> Iterator[Path]:
    """A repository in which ``library`` is entered, with a desk in it, and then neither."""
    tree = copied(tmp_path / "copy")
    (entry,) = re.findall(r"```toml\n( +\[\[source\]\].*?)```", RUNBOOK.read_text(), re.DOTALL)
    with (tree / "nomad/sources.toml").open("a") as file:
        file.write(f"\n{textwrap.dedent(entry)}")
    with (tree / "backup/databases.toml").open("a") as file:
        file.write(LIBRARY)
    typing.type(f"cd {tree}; export PYTHONPATH={tree}:{tree}/airflow")
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE library")
    try:
        yield tree
    finally:
        take_library_away()
    is_well(platform)


RUNBOOK = ROOT / "docs/runbook.md"
LIBRARY = """
[[database]]
name = "library"
server = "postgres"
vault_path = "backup/databases/library"
schedule = "20 3 * * *"
retention = "daily"
expected_size = "10MB"
"""


def take_library_away() -> None:
    """Remove the source, as the page says, and all that it left."""
    vault_client, nomad = agents.vault_client(), agents.nomad_client(bootstrap())
    for name in ("local-ingest-library", "local-backup-library"):
        vault_client.sys.delete_policy(name)
        vault_client.delete(f"auth/jwt-nomad/role/{name}")
    for job, namespace in (("ingest-library", "runs"), ("backup-library", "default")):
        with suppress(NomadError):
            nomad.job.deregister_job(job, namespace=namespace, purge=True)
    forget(
        "connections/ingest/library", "connections/ingest/hash_key/library",
        "connections/ingest/alerts_webhook", "connections/ingest/smtp_default",
        "backup/databases/library", "backup/signing/library",
    )  # fmt: skip
    credentials.write({"backup/signers": credentials.signers()})
    with psycopg.connect(databases.superuser("warehouse"), autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS raw_library, raw_library_staging CASCADE")
        connection.execute("DROP DATABASE library WITH (FORCE)")
        for role in ("library_ingest", "library_backup", "library_owner"):
            connection.execute(f"DROP ROLE IF EXISTS {role}".encode())
    program = "from scripts.local import up; up.bring_up(600); up.keep_access()"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=1200)


def library_grants(passwords: dict[str, str]) -> str:
    """Return the page's SQL for the roles of ``library``."""
    every, reads = block("Databases", 0), block("Databases", 1).split("-- B;")[1]
    grants = f"CREATE ROLE hr_owner;\nCREATE TABLE books (id int PRIMARY KEY, title text);{every}"
    grants += f"ALTER TABLE books OWNER TO hr_owner;\n--{reads}"
    grants += every.split("\n", 4)[4].replace("hr_ingest", "hr_backup")
    grants += "GRANT pg_read_all_data TO hr_backup;\n"
    grants += "INSERT INTO books SELECT n, 'title ' || n FROM generate_series(1, 500) n;\n"
    for role, password in passwords.items():
        grants += f"ALTER ROLE {role} PASSWORD '{password}';\n"
    return re.sub(r"\bhr(?=[_ ])", "library", grants)


def test_a_source_is_added(platform: Access, typing: Desk, library: Path, tmp_path: Path) -> None:
    passwords = {role: secrets.token_hex(16) for role in ("library_ingest", "library_backup")}
    with psycopg.connect(databases.superuser("library"), autocommit=True) as connection:
        connection.execute(library_grants(passwords).encode())
    uris = {role: LIBRARY_URI.format(role, word) for role, word in passwords.items()}
    examples = {
        f"postgresql://{role}:…@db.example.org:5432/library": uri for role, uri in uris.items()
    }
    typing.type(here(block("Add a source database", 0), **examples))
    key = block("Pipelines: what happened, and again", 1)
    typing.type(here(filled(key, {"hash_key/hr": "hash_key/library"})))
    typing.type(here(block("Alerts of pipelines", 0)))
    typing.type(f"export GNUPGHOME={tmp_path}/gnupg; mkdir -m 700 $GNUPGHOME; cd $GNUPGHOME")
    signing = filled(block("GPG keys", 2), {"NAME=hr ": "NAME=library "})
    typing.type(here(signing), may_fail=True)  # the first time there is none
    typing.type(f"gpgconf --kill all; cd {library}")
    build = (
        f"docker build --quiet --network host --label {LABEL} --tag harmattan/backup:library"
        f" --build-arg BASE_IMAGE={ensure_base()} --file backup/Dockerfile ."
    )
    typing.type(f"DOCKER_BUILDKIT=0 {build}")
    (tmp_path / "library.hcl").write_text('backup_image = "harmattan/backup:library"\n')
    with Checkout() as checkout:
        file = checkout.tree / "pipelines/library.yaml"
        typing.type(
            f"AIRFLOW_CONN_LIBRARY={uris['library_ingest']} .venv/bin/ingest init library > {file}"
        )
        checkout.commit_and_push("Add the library")
        try:
            launches.finish(platform, launches.force(platform, "dag-sync"), timeout=300)
            text = here(block("Add a source database", 1))
            last = VARIABLE_FILES[-1]
            text = filled(text, {f"{last}'": f"{last} {tmp_path}/library.hcl'"})
            said = launch(platform, typing, text)
            assert "local-ingest-library" in said
            assert contents("warehouse", "raw_library") == contents("library", "public")
            with open_catalogue(platform.backups) as catalogue:
                assert catalogue.backups("library")
        finally:
            checkout.git("revert", "--no-edit", "HEAD")
            checkout.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
            launches.finish(platform, launches.force(platform, "dag-sync"), timeout=300)


def test_what_analysts_tasks_reach_is_bounded(
    platform: Access, typing: Desk, tmp_path: Path
) -> None:
    text = filled(
        here(block("Bound what analysts' tasks reach", 0)),
        {
            "warehouse.example.org:5432": f"{ADDRESS}:15432",
            "airflow-db.example.org:5432": f"{ADDRESS}:15432",
            "> harmattan-egress.nft": f"> {tmp_path}/harmattan-egress.nft",
            "nft -f harmattan-egress.nft": f"nft -f {tmp_path}/harmattan-egress.nft",
        },
    )
    own = tmp_path / "network.hcl"
    own.write_text('analysts_network = "analysts"\n')
    held = ["airflow-worker-analysts", "airflow-dag-processor-analysts", "airflow-triggerer"]
    files = " ".join(f"--var-file {each}" for each in VARIABLE_FILES)
    try:
        typing.type(text)
        typing.type(f"scripts/deploy.py {files} --var-file {own} {' '.join(held)}")
        assert ended(platform, trigger(platform, "school_report")) == "success"
        assert "counter" in typing.type("nft list table inet harmattan_egress")
    finally:
        typing.type("nft delete table inet harmattan_egress", may_fail=True)
        typing.type(f"scripts/deploy.py {files} {' '.join(held)}")
        typing.type("docker network rm analysts")
    is_well(platform)


HEAVY = '''"""Wants much memory."""

from datetime import datetime

from airflow.sdk import dag, task


@dag("heavy", schedule=None, start_date=datetime(2026, 1, 1), tags=["heavy"],
     default_args={"owner": "it-analytics"})
def heavy():
    @task(queue="heavy")
    def work():
        print("WORKED")

    work()


heavy()
'''


def test_a_pool_of_workers_is_added(platform: Access, typing: Desk, tmp_path: Path) -> None:
    tree = copied(tmp_path / "copy")
    roles = tree / "vault-policies/roles.toml"
    text = roles.read_text()
    assert text.count(QUEUE) == 2
    roles.write_text(text.replace(QUEUE, f"{QUEUE}, {QUEUE.replace('analysts', 'heavy')}"))
    typing.type(f"cd {tree}; export PYTHONPATH={tree}:{tree}/airflow")
    path = f"{credentials.MOUNT}/{ENVIRONMENT}/redis/worker-heavy"
    typing.type(f"vault kv put {path} password={secrets.token_hex(16)}")
    typing.type(here(block("Vault", 0).splitlines()[1]))
    own = tmp_path / "queues.hcl"
    own.write_text('worker_queues = ["analysts", "heavy"]\n')
    files = " ".join(f"--var-file {each}" for each in VARIABLE_FILES)
    try:
        typing.type(f"scripts/deploy.py {files} --var-file {own} redis dag-sync")
        typing.type(here(block("Add a worker", 0)))
        wait(platform.nomad, ["airflow-worker-heavy"], timeout=START_SECONDS)
        with Checkout() as checkout:
            (checkout.tree / "dags/heavy.py").write_text(HEAVY)
            checkout.commit_and_push("Add a heavy DAG")
            try:
                launches.finish(platform, launches.force(platform, "dag-sync"), timeout=300)
                wait_until(lambda: is_parsed(platform, "heavy"), "the DAG to be parsed", 240)
                run = trigger(platform, "heavy")
                assert ended(platform, run) == "success"
                (work,) = platform.airflow(f"{run}/taskInstances")["task_instances"]
                assert work["queue"] == "heavy"
            finally:
                checkout.git("revert", "--no-edit", "HEAD")
                checkout.git("push", "--quiet", "origin", "HEAD:refs/heads/main")
                launches.finish(platform, launches.force(platform, "dag-sync"), timeout=300)
    finally:
        typing.type("nomad job stop -purge airflow-worker-heavy", may_fail=True)
        typing.type(f"scripts/deploy.py {files} redis dag-sync")
        forget("redis/worker-heavy")
        for name in ("local-airflow-worker-heavy", "local-airflow-worker-heavy-connections"):
            agents.vault_client().sys.delete_policy(name)
            agents.vault_client().delete(f"auth/jwt-nomad/role/{name}")
    is_well(platform)


QUEUE = '{ queue = "analysts" }'

"""A task's connections, by a real login with an identity like Nomad's to a real Vault.

One process for all cases: importing Airflow takes seconds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from scripts.vault_setup import AUDIENCES, set_up
from tests.conftest import free_port
from tests.nomad.rendering import tasks
from tests.tls import PUBLIC

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from tests.vault_policies.server import VaultServer

MOUNT = "connections-kv"
ENVIRONMENT = "test"
URI = "postgresql://reader:p4ssw0rd-of-hr@db.test:5432/hr"
WORKER = "airflow-worker-analysts"

# Each case is asked three times: of the backend itself; as a task asks, by Airflow's own look-up;
# and as the pipelines ask.
PROGRAM = """
import json, os, sys
from airflow.sdk.configuration import clear_secrets_backends_cache
from airflow.sdk.execution_time.context import _get_connection
from harmattan.vault_connections import VaultConnections
from harmattan.connections import resolve
from ingest import connections

def asked(ask):
    try:
        return {"answer": ask(), "error": None, "message": ""}
    except Exception as error:
        return {"answer": None, "error": type(error).__name__, "message": str(error)}

found = {}
for name, case in json.load(open(sys.argv[1])).items():
    os.environ["AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS"] = json.dumps(case["kwargs"])
    clear_secrets_backends_cache()
    backend = VaultConnections(**case["kwargs"])
    found[name] = {
        "backend": asked(lambda: backend.get_conn_value(case["conn_id"])),
        "task": asked(lambda: _get_connection(case["conn_id"]).get_uri()),
        "pipeline": asked(lambda: dict(connections.postgres(
            resolve(case["conn_id"])).parameters)),
    }
print("FOUND", json.dumps(found))
"""
DENIED = "AirflowSecretsBackendAccessDenied"
OF_AIRFLOW = ("backend", "task")


@pytest.fixture(scope="module")
def vault(vault_server: VaultServer) -> VaultServer:
    """Vault with the roles, and connections of the analysts and of the loads."""
    client = vault_server.client()
    set_up(
        client, mount=MOUNT, environment=ENVIRONMENT, jwks_url=vault_server.issuer.jwks_url
    )  # fmt: skip
    for path, value in {
        "connections/analysts/hr": {"conn_uri": URI},
        "connections/analysts/by_parts": {
            "conn_type": "postgres",
            "host": "db.test",
            "login": "me",
        },
        "connections/analysts/verified": {"conn_uri": f"{URI}?sslmode=verify-full"},
        "connections/analysts/verified_by_parts": {
            "conn_type": "postgres",
            "host": "db.test",
            "extra": '{"sslmode": "verify-ca"}',
        },
        "connections/ingest/warehouse": {"conn_uri": URI},
    }.items():
        client.secrets.kv.v2.create_or_update_secret(
            f"{ENVIRONMENT}/{path}", value, mount_point=MOUNT
        )
    return vault_server


def from_the_job_file(vault: VaultServer, identity: Path, **changes: Any) -> dict[str, Any]:
    """Return what the job file hands the backend, with this Vault's address and mount."""
    (worker,) = [task for task in tasks(WORKER) if task["Name"] == "worker"]
    assert worker["Env"]["AIRFLOW__WORKERS__SECRETS_BACKEND"] == (
        "harmattan.vault_connections.VaultConnections"
    )
    kwargs = json.loads(worker["Env"]["AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS"])
    return {
        **kwargs,
        "url": vault.address,
        "mount_point": MOUNT,
        "jwt_role": kwargs["jwt_role"].replace("local-", f"{ENVIRONMENT}-"),
        "connections_path": kwargs["connections_path"].replace("local/", f"{ENVIRONMENT}/"),
        "jwt_token_path": str(identity),
        **changes,
    }


@pytest.fixture(scope="module")
def identity(vault: VaultServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / "nomad_connections.jwt"
    path.write_text(vault.issuer.identity(WORKER, "worker", aud=AUDIENCES[True]))
    return path


@pytest.fixture(scope="module")
def found(
    vault: VaultServer,
    identity: Path,
    tmp_path_factory: pytest.TempPathFactory,
    airflow_program: Callable[..., subprocess.CompletedProcess[str]],
) -> dict[str, Any]:
    """Return what each case was answered."""
    other = identity.with_name("other.jwt")
    other.write_text(vault.issuer.identity("airflow-scheduler", "scheduler"))
    cases = {
        "found": ("hr", {}),
        "by parts": ("by_parts", {}),
        "verified": ("verified", {}),
        "verified by parts": ("verified_by_parts", {}),
        "absent": ("nothing", {}),
        "of the loads": ("warehouse", {"connections_path": f"{ENVIRONMENT}/connections/ingest"}),
        "of another environment": ("hr", {"connections_path": "production/connections/analysts"}),
        "outside the path": ("../ingest/warehouse", {}),
        "with another's identity": ("hr", {"jwt_token_path": str(other)}),
        "without an identity": ("hr", {"jwt_token_path": "/nonexistent/identity.jwt"}),
        "down": ("hr", {"url": f"http://127.0.0.1:{free_port()}"}),
    }
    file = tmp_path_factory.mktemp("cases") / "cases.json"
    file.write_text(
        json.dumps(
            {
                name: {"conn_id": conn_id, "kwargs": from_the_job_file(vault, identity, **changes)}
                for name, (conn_id, changes) in cases.items()
            }
        )
    )
    done = airflow_program(
        PROGRAM,
        str(file),
        AIRFLOW__WORKERS__SECRETS_BACKEND="harmattan.vault_connections.VaultConnections",
        SSL_CERT_FILE=PUBLIC,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    secrets = [vault.token, identity.read_text(), other.read_text(), "p4ssw0rd-of-hr"]
    answers = json.loads(line.removeprefix("FOUND "))
    for name, each in answers.items():
        for ask in each.values():
            for secret in secrets:
                assert secret not in ask["message"], f"{name}: a secret in {ask['message']}"
    return answers  # type: ignore[no-any-return]


def test_a_connection_that_is_there_is_read(found: dict[str, Any]) -> None:
    assert found["found"]["backend"]["answer"] == URI
    # Airflow spells PostgreSQL's scheme in its own way.
    assert found["found"]["task"]["answer"] == URI.replace("postgresql:", "postgres:")
    assert json.loads(found["by parts"]["backend"]["answer"])["host"] == "db.test"


def test_one_that_wants_the_server_verified_knows_by_which_authorities(
    found: dict[str, Any],
) -> None:
    for case in ("verified", "verified by parts"):
        assert found[case]["pipeline"]["answer"]["sslrootcert"] == PUBLIC
        assert PUBLIC in unquote(found[case]["task"]["answer"])
    assert found["verified"]["backend"]["answer"] == (
        f"{URI}?sslmode=verify-full&sslrootcert={PUBLIC}"
    )
    assert "sslrootcert" not in str(found["found"])


def test_one_that_is_not_there_is_left_to_the_next_backend(found: dict[str, Any]) -> None:
    assert found["absent"]["backend"] == {"answer": None, "error": None, "message": ""}
    assert "isn't defined" in found["absent"]["task"]["message"]


@pytest.mark.parametrize("case", ["of the loads", "of another environment"])
def test_one_that_vault_denies_is_told_so(found: dict[str, Any], case: str) -> None:
    for way in OF_AIRFLOW:
        asked = found[case][way]
        assert asked["error"] == DENIED
        assert asked["message"].startswith("Vault denies this worker the connection ")
        assert "HINT: " in asked["message"]
        assert "isn't defined" not in asked["message"]


def test_a_name_that_leads_out_of_the_folder_gives_nothing(found: dict[str, Any]) -> None:
    for asked in found["outside the path"].values():
        assert asked["answer"] is None


@pytest.mark.parametrize("case", ["down", "with another's identity", "without an identity"])
def test_a_vault_that_cannot_be_asked_is_told_so(found: dict[str, Any], case: str) -> None:
    for way in OF_AIRFLOW:
        asked = found[case][way]
        assert asked["error"] == DENIED, asked
        assert "Vault" in asked["message"]
        assert f"{MOUNT}/{ENVIRONMENT}/connections/analysts/hr" in asked["message"]
        assert "HINT: " in asked["message"]
        assert "isn't defined" not in asked["message"]


def test_a_pipeline_asks_the_backend(
    found: dict[str, Any],
) -> None:
    parts = {"host": "db.test", "port": "5432", "user": "reader", "dbname": "hr"}
    assert found["found"]["pipeline"]["answer"].items() >= parts.items()
    for case, why in {
        "absent": "isn't defined",
        "of the loads": "Vault denies this worker the connection",
        "down": "Vault did not answer",
    }.items():
        asked = found[case]["pipeline"]
        assert asked["error"] == "UnknownConnectionError"
        assert "expected it in the secrets backend, found: " in asked["message"]
        assert why in asked["message"]
        assert "\nHINT: " in asked["message"]

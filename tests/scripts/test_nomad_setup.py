"""``scripts.nomad_setup`` on a real Nomad: what it writes, a second time, and its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from frame.failure import Failure
from scripts import nomad_setup
from scripts.cluster import Nomad, NomadError, connect
from scripts.jobs import Namespaces
from scripts.local import agents
from tests.conftest import free_port
from tests.nomad.agent import Server, running_server
from tests.nomad.rendering import rendered

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.programs

PRODUCTION = Namespaces()
STAGING = Namespaces("staging", "staging-runs")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Nomad that asks for tokens, with both environments."""
    with running_server(tmp_path_factory.mktemp("nomad")) as found:
        management = connect(found.address, found.token)
        nomad_setup.set_up(management, environment="production", namespaces=PRODUCTION)
        nomad_setup.set_up(management, environment="staging", namespaces=STAGING)
        yield found


@pytest.fixture
def management(server: Server) -> Nomad:
    return connect(server.address, server.token)


def of_people(server: Server, name: str, environment: str, namespace: str) -> Nomad:
    """Return a client with a token of an environment's policy, which asks in ``namespace``."""
    policy = nomad_setup.policy_name(environment, name)
    made = connect(server.address, server.token).acl.create_token(
        {"Name": name, "Type": "client", "Policies": [policy], "ExpirationTTL": "1h"}
    )
    return connect(server.address, made["SecretID"], namespace=namespace)


def state(management: Nomad) -> dict[str, Any]:
    return {
        "namespaces": management.namespaces.get_namespaces(),
        "policies": [
            management.acl.get_policy(each["Name"]) for each in management.acl.get_policies()
        ],
    }


def test_a_second_time_changes_nothing(management: Nomad) -> None:
    before = state(management)
    nomad_setup.set_up(management, environment="staging", namespaces=STAGING)
    after = state(management)
    for each in (before, after):
        for thing in (*each["namespaces"], *each["policies"]):
            thing.pop("ModifyIndex")
    assert after == before
    assert {each["Name"] for each in before["policies"]} == {
        f"{environment}-{name}"
        for environment in ("production", "staging")
        for name in (*nomad_setup.PEOPLE, *nomad_setup.TASKS)
    }


def test_the_team_of_one_environment_runs_its_jobs_and_not_the_others(server: Server) -> None:
    job = {"Job": {**rendered("dag-mirror"), "ID": "probe", "Name": "probe"}}
    for environment, own, other in (
        ("production", PRODUCTION, STAGING),
        ("staging", STAGING, PRODUCTION),
    ):
        for namespace in (own.jobs, own.runs):
            client = of_people(server, "platform", environment, namespace)
            job["Job"]["Namespace"] = namespace
            client.job.plan_job("probe", job)
        for namespace in (other.jobs, other.runs):
            client = of_people(server, "platform", environment, namespace)
            job["Job"]["Namespace"] = namespace
            with pytest.raises(NomadError, match="Permission denied"):
                client.job.plan_job("probe", job)
            with pytest.raises(NomadError, match="Permission denied"):
                client.jobs.get_jobs()


def test_a_policy_of_a_task_is_for_that_task_in_its_namespace(management: Nomad) -> None:
    for environment, places in (("production", PRODUCTION), ("staging", STAGING)):
        for name, task in nomad_setup.TASKS.items():
            policy = management.acl.get_policy(nomad_setup.policy_name(environment, name))
            bound = {key: value for key, value in policy["JobACL"].items() if value}
            assert bound == {"Namespace": places.jobs, **task}
            job = rendered(task["JobID"])
            groups = {
                group["Name"]: {each["Name"] for each in group["Tasks"]}
                for group in job["TaskGroups"]
            }
            if "Group" in task:
                assert task["Task"] in groups[task["Group"]]


@pytest.mark.parametrize(
    "places", [PRODUCTION, Namespaces("third", "staging-runs"), Namespaces("staging", "third")]
)
def test_the_namespace_of_another_environment_is_refused(
    management: Nomad, places: Namespaces
) -> None:
    before = state(management)
    with pytest.raises(Failure, match="expected one of the environment third, found") as refused:
        nomad_setup.set_up(management, environment="third", namespaces=places)
    assert "--runs-namespace" in str(refused.value.hint)
    assert state(management) == before


def test_what_others_wrote_of_a_namespace_stays(management: Nomad) -> None:
    management.namespace.create_namespace(
        {"Name": "theirs", "Description": "ours", "Meta": {"owner": "them"}}
    )
    places = Namespaces("theirs", "fourth-runs")
    nomad_setup.set_up(management, environment="fourth", namespaces=places)
    found = management.namespace.get_namespace("theirs")
    assert found["Description"] == "ours"
    assert found["Meta"] == {"owner": "them", nomad_setup.OWNER: "fourth"}


def test_tokens_of_this_machine_end_and_are_made_again_before(
    server: Server, management: Nomad, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agents, "SECRETS", home / "secrets")
    monkeypatch.setattr(agents, "NOMAD_ADDR", server.address)
    nomad_setup.set_up(management, environment="local", namespaces=Namespaces("l", "l-runs"))

    def kept() -> str:
        agents.keep_token(management, "platform")
        return str(agents.read_secret("nomad-platform"))

    first = kept()
    assert kept() == first
    assert connect(server.address, first).acl.get_self_token()["ExpirationTime"]
    monkeypatch.setattr(agents, "TOKEN_LASTS", agents.TOKEN_LASTS * 4)
    second = kept()
    assert second != first
    with pytest.raises(NomadError):
        connect(server.address, first).acl.get_self_token()


def test_a_token_that_nomad_does_not_take(server: Server, command: Command) -> None:
    done = command(
        "python", "-m", "scripts.nomad_setup", "--environment=production",
        NOMAD_ADDR=server.address, NOMAD_TOKEN="00000000-0000-0000-0000-000000000000",  # noqa: S106
    )  # fmt: skip
    assert done.returncode == 1
    assert "did not take the set-up" in done.stderr
    assert "HINT: Check the address, and that the token is a management token." in done.stderr


def test_no_token_and_no_server(command: Command) -> None:
    words = ("python", "-m", "scripts.nomad_setup", "--environment=production")
    address = f"http://127.0.0.1:{free_port()}"
    done = command(*words, NOMAD_ADDR=address)
    assert done.returncode == 2
    assert "NOMAD_TOKEN is not set" in done.stderr
    done = command(*words, NOMAD_ADDR=address, NOMAD_TOKEN="any")  # noqa: S106
    assert done.returncode == 1
    assert address in done.stderr
    assert "Traceback" not in done.stderr

"""What the rendered job files say: the table, and the rules that hold for all of them."""

from __future__ import annotations

import json
import re
from typing import Any

import hcl2
import pytest

from frame.trust import OWN
from ingest.nomad import Asked, Place
from scripts.jobs import Namespaces
from scripts.local.agents import HOST_VOLUMES
from scripts.local.home import PORTS
from scripts.repository import ROOT
from tests.nomad.rendering import (
    DEPLOYMENTS,
    FILES,
    LOCAL,
    PLATFORM,
    RUNS,
    VARIABLE_FILES,
    every_job,
    for_each,
    groups,
    nomad,
    output,
    platform_job,
    rendered,
    row,
    tasks,
)
from tests.nomad.table import TABLE
from tests.tls import Authority

SECOND = 1_000_000_000
# Those that run what analysts wrote, beside the judge.
STRANGERS = ["airflow-dag-processor-analysts", "airflow-triggerer", "airflow-worker-analysts"]
# What Nomad no longer knows or reads, found nowhere in a job, with the version that dropped it.
# From Nomad's upgrade guide; the notes of 2.0 name no further field of a job.
DROPPED = {
    "vault": {"policies": "1.10: tokens of Nomad's own", "file": "1.10: disable_file"},
    "group": {
        "stop_after_client_disconnect": "1.10: disconnect.stop_on_client_after",
        "max_client_disconnect": "1.10: disconnect.lost_after",
        "prevent_reschedule_on_lost": "1.10: disconnect.replace",
        "consul": "1.10: tokens of Nomad's own; no Consul here",
    },
    "task": {"consul": "1.10: tokens of Nomad's own; no Consul here", "service": "a group's"},
    "template": {"vault_grace": "0.12"},
    "resources": {"network": "0.12: the group's network", "iops": "0.9"},
    "periodic": {"cron": "1.6: crons"},
    "config": {"port_map": "1.0: ports", "auth": "credentials in a job"},
    "job": {"region": "the agent's", "consul_token": "1.10", "vault_token": "1.10"},
}


@pytest.mark.programs
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_file_is_formatted(file: Any) -> None:
    done = nomad("fmt", "-check", file)
    assert done.returncode == 0, f"nomad fmt {file}: {done.stdout}{done.stderr}"


def test_every_file_is_deployed() -> None:
    assert {each.file for each in DEPLOYMENTS.values()} == set(FILES)


def test_every_job_has_a_row_in_the_table() -> None:
    assert set(TABLE) == set(DEPLOYMENTS)


@every_job
def test_a_job_gets_what_the_table_says(job_id: str) -> None:
    assert row(job_id) == TABLE[job_id]


@every_job
def test_nomad_finds_the_job_valid(job_id: str) -> None:
    """Without an agent it checks what a server would, but not what a driver would."""
    done = output(DEPLOYMENTS[job_id], verb=("validate",))
    assert done.returncode == 0, done.stdout
    assert "Job validation successful" in done.stdout
    assert "warning" not in done.stdout.lower()


@every_job
def test_the_id_is_the_one_that_is_deployed(job_id: str) -> None:
    assert rendered(job_id)["ID"] == rendered(job_id)["Name"] == job_id


@every_job
def test_tasks_are_containers_without_capabilities_of_their_own(job_id: str) -> None:
    for task in tasks(job_id):
        assert task["Driver"] == "docker"
        assert task["Config"]["cap_drop"] == ["all"], task["Name"]
        assert not {"privileged", "volumes", "devices", "pid_mode", "ipc_mode"} & set(
            task["Config"]
        )
        assert task["Config"].get("network_mode") in {None, "none", "bridge"}, task["Name"]


@pytest.mark.programs
def test_the_judge_of_strangers_code_is_shut_in() -> None:
    (judge,) = [task for task in tasks("dag-sync") if task["Name"] == "judge"]
    config = judge["Config"]
    assert config["network_mode"] == "none"
    assert config["security_opt"] == ["no-new-privileges"]
    assert config["readonly_rootfs"] is True
    assert 0 < config["pids_limit"] <= 512
    assert judge["Env"] == {
        "DELIVERY_QUEUES": "analysts",
        "DELIVERY_ENVIRONMENTS": "local,production,staging",
        "DELIVERY_CONTAINERS": "meltano",
    }
    assert judge["Vault"] is None


@for_each(STRANGERS)
def test_a_container_of_the_analysts_is_bounded(job_id: str) -> None:
    bounded = [task["Config"] for task in tasks(job_id) if "pids_limit" in task["Config"]]
    assert bounded
    for config in bounded:
        assert config["security_opt"] == ["no-new-privileges"]
        assert config["readonly_rootfs"] is True
        assert 0 < config["pids_limit"] <= 512
        assert int(config["ulimit"][0]["nofile"]) <= 4096
        (scratch,) = config["mount"]
        assert (scratch["type"], scratch["target"]) == ("tmpfs", "/tmp")  # noqa: S108
        assert 0 < scratch["tmpfs_options"][0]["size"] <= 2**30


@for_each(STRANGERS)
def test_the_analysts_network_is_that_of_their_code_alone(job_id: str) -> None:
    written = output(DEPLOYMENTS[job_id], analysts_network="theirs").stdout
    inside = [
        task["Name"]
        for group in json.loads(written)["Job"]["TaskGroups"]
        for task in group["Tasks"]
        if task["Config"].get("network_mode") == "theirs"
    ]
    assert len(inside) == 1


@for_each(["restore-drill", "restore-drill-now"])
def test_the_server_that_runs_what_is_restored_is_shut_in(job_id: str) -> None:
    by_name = {task["Name"]: task for task in tasks(job_id)}
    server = by_name["server"]
    config = server["Config"]
    assert config["network_mode"] == "none"
    assert config["security_opt"] == ["no-new-privileges"]
    assert config["readonly_rootfs"] is True
    assert 0 < config["pids_limit"] <= 512
    assert (server["Vault"], server["Templates"]) == (None, None)
    assert server["Env"].keys() == {"BACKUP_SCRATCH"}
    assert server["Lifecycle"]["Sidecar"] is True
    # No user, no disk and no writable folder that the one with the keys uses as well.
    drill = by_name["drill"]
    assert server["User"] != drill["User"]
    volumes = [
        {mount["Volume"] for mount in task["VolumeMounts"] or []} for task in (server, drill)
    ]
    assert not set.intersection(*volumes)
    assert config["args"][1] == drill["Env"]["BACKUP_SCRATCH_SERVER"]


@for_each(RUNS)
def test_what_airflow_may_launch_is_shut_in_and_tried_by_airflow_alone(job_id: str) -> None:
    job = rendered(job_id)
    assert job["Namespace"] == Namespaces.runs
    assert job["ParameterizedJob"]["Payload"] == "forbidden"
    (group,) = groups(job_id)
    assert group["RestartPolicy"]["Attempts"] == group["ReschedulePolicy"]["Attempts"] == 0
    (task,) = tasks(job_id)
    config = task["Config"]
    assert config["security_opt"] == ["no-new-privileges"]
    assert config["readonly_rootfs"] is True
    assert 0 < config["pids_limit"] <= 512
    assert task["KillTimeout"] <= 60 * SECOND


@pytest.mark.programs
def test_a_dispatch_gives_what_the_command_reads_and_nothing_else() -> None:
    asked = rendered(RUNS[0])["ParameterizedJob"]
    fields = Asked.model_fields
    assert asked["MetaRequired"] == [name for name in fields if fields[name].is_required()]
    assert asked["MetaOptional"] == [name for name in fields if not fields[name].is_required()]
    (task,) = tasks(RUNS[0])
    assert set(task["Env"]) == set(Place.variables().values())


@platform_job
def test_a_namespace_of_its_own_has_what_airflow_may_launch_and_nothing_else(job_id: str) -> None:
    wanted = Namespaces.runs if job_id in RUNS else Namespaces.jobs
    assert rendered(job_id)["Namespace"] == wanted


@every_job
def test_a_task_outlives_the_loss_of_vault(job_id: str) -> None:
    """By default Nomad restarts a task when it had to log in to Vault anew."""
    for task in tasks(job_id):
        assert task["Vault"] is None or task["Vault"]["ChangeMode"] == "noop", task["Name"]


RUN_STRANGERS_CODE = {
    "dag-sync": "judge",
    "airflow-dag-processor-pipelines": "dag-processor",
    "airflow-dag-processor-analysts": "dag-processor",
    "airflow-triggerer": "triggerer",
    "airflow-worker-analysts": "worker",
    "restore-drill": "server",
    "restore-drill-now": "server",
}


@for_each(RUN_STRANGERS_CODE)
def test_strangers_code_gains_no_privilege_and_reaches_no_folder_that_nomad_writes(
    job_id: str,
) -> None:
    for task in (each for each in tasks(job_id) if each["Name"] == RUN_STRANGERS_CODE[job_id]):
        config = task["Config"]
        assert config["security_opt"] == ["no-new-privileges"]
        assert 0 < config["pids_limit"] <= 512
        _, *module = config["entrypoint"][:3]
        assert module == ["-m", "frame.launcher"]
        assert task["User"] in {"root", "0:0"}
        # Nomad mounts its folder of logs itself since 2.0.1: two mounts in one place do not start.
        assert "/alloc" not in {mount["target"][:6] for mount in config.get("mount", [])}


@for_each(["airflow-worker-analysts", "airflow-triggerer"])
def test_an_identity_is_written_for_a_user_that_the_node_does_not_know(job_id: str) -> None:
    """Else it would be root's alone: client/allocrunner/taskrunner/identity_hook.go."""
    named = [task for task in tasks(job_id) if task["Identity"] or task["Identities"]]
    assert named
    assert {task["User"] for task in named} == {"0:0"}


@pytest.mark.programs
def test_each_bundle_has_a_triggerer_and_its_health_is_its_own() -> None:
    found = {
        group["Name"]: (
            [service["Name"] for service in group["Services"]],
            [task["Config"]["args"][-2] for task in group["Tasks"] if task["Name"] == "triggerer"],
        )
        for group in groups("airflow-triggerer")
    }
    assert found == {
        f"triggerer-{bundle}": ([f"airflow-triggerer-{bundle}"], [bundle])
        for bundle in ("pipelines", "analysts")
    }


@pytest.mark.programs
def test_only_the_pipelines_triggerer_reaches_nomad() -> None:
    found = {
        group["Name"]: [each["Name"] for each in task["Identities"] or []]
        for group in groups("airflow-triggerer")
        for task in group["Tasks"]
        if task["Name"] == "triggerer"
    }
    assert found == {"triggerer-pipelines": ["runs"], "triggerer-analysts": []}
    kwargs = "AIRFLOW__SECRETS__BACKEND_KWARGS"
    pipelines, analysts = (
        task["Env"].get(kwargs)
        for task in tasks("airflow-triggerer")
        if task["Name"] == "triggerer"
    )
    assert json.loads(pipelines)["namespace"] == "runs"
    assert analysts is None


@pytest.mark.programs
def test_a_worker_knows_the_analysts_bundle_only() -> None:
    env = json.dumps(_env("airflow-worker-analysts", "worker")).replace("\\", "")
    assert re.findall(r'/(\w+)\.git"', env) == ["analysts"]


@pytest.mark.programs
def test_a_further_pool_has_a_queue_and_a_redis_user_and_the_analysts_connections() -> None:
    worker = output(DEPLOYMENTS["airflow-worker-analysts"], queue="heavy", worker_memory="4096")
    job = json.loads(worker.stdout)["Job"]
    assert job["ID"] == "airflow-worker-heavy"
    (task,) = [each for each in job["TaskGroups"][0]["Tasks"] if each["Name"] == "worker"]
    assert task["Resources"]["MemoryMB"] == 4096
    assert "connections/analysts" in json.dumps(task["Env"])
    broker = output(DEPLOYMENTS["redis"], worker_queues='["analysts", "heavy"]').stdout
    assert "user worker-heavy on " in broker


def _env(job_id: str, name: str) -> dict[str, str]:
    (env,) = [task["Env"] for task in tasks(job_id) if task["Name"] == name]
    return env  # type: ignore[no-any-return]


# What connects with nothing by TLS: a server of logs, one of git, and what fetches by ssh.
SPEAKS_NO_TLS = {"airflow-logs", "dag-mirror", "dag-sync"}


@platform_job
def test_every_task_gets_the_clusters_own_authorities(job_id: str) -> None:
    """Of its job's meta, by which frame.trust calls them."""
    authorities = [Authority().pem, Authority().pem]
    done = output(DEPLOYMENTS[job_id], ca_certificates=json.dumps(authorities))
    job = json.loads(done.stdout)["Job"]
    if job_id in SPEAKS_NO_TLS or job_id == "redis":
        assert not job["Meta"]
        return
    assert (job["Meta"] or {})[OWN.removeprefix("NOMAD_META_")] == "\n".join(authorities)


@every_job
def test_restart_is_said_out_loud(job_id: str) -> None:
    for group in groups(job_id):
        policy = group["RestartPolicy"]
        assert policy is not None, group["Name"]
        assert None not in (policy["Attempts"], policy["Mode"])
        if policy["Attempts"]:
            assert None not in (policy["Interval"], policy["Delay"])


# The batch jobs that are not launched again by a schedule or a person, and that others wait for.
NEVER_GIVES_UP_BATCH = {"airflow-migrate", "superset-migrate"}
WEEK = 7 * 24 * 3600 * SECOND


@every_job
def test_what_a_driver_failed_comes_back_by_itself(job_id: str) -> None:
    """A driver's error ends an allocation whatever ``restart`` says: only ``reschedule`` helps."""
    job = rendered(job_id)
    assert job["Type"] != "system", "Nomad refuses it a reschedule: its driver's error is final"
    if job["Type"] == "batch" and job_id not in NEVER_GIVES_UP_BATCH:
        assert job["Periodic"] or job["ParameterizedJob"], "nothing launches it again"
        return
    for group in groups(job_id):
        policy = group["ReschedulePolicy"]
        assert policy["Unlimited"] is True
        assert policy["DelayFunction"] == "exponential"
        assert 0 < policy["Delay"] < policy["MaxDelay"] <= 300 * SECOND


@every_job
def test_a_batch_job_says_how_often_it_is_tried(job_id: str) -> None:
    if rendered(job_id)["Type"] != "batch" or job_id in NEVER_GIVES_UP_BATCH:
        return
    for group in groups(job_id):
        policy = group["ReschedulePolicy"]
        assert (policy["Attempts"], policy["Unlimited"]) == (0, False)
        assert group["RestartPolicy"]["Mode"] == "fail"


@every_job
def test_a_failed_deployment_does_not_end_the_tries(job_id: str) -> None:
    """Nomad replaces no allocation of a failed deployment, however unlimited its reschedule."""
    job = rendered(job_id)
    if job["Type"] == "service":
        assert job["Update"]["ProgressDeadline"] >= WEEK


@every_job
def test_a_service_tries_in_place_a_few_times_and_then_elsewhere(job_id: str) -> None:
    if rendered(job_id)["Type"] == "service":
        mode = "delay" if job_id.startswith("local-") else "fail"  # one node: there is no elsewhere
        assert {group["RestartPolicy"]["Mode"] for group in groups(job_id)} == {mode}


@pytest.mark.programs
def test_there_is_one_log_server_a_node() -> None:
    (group,) = groups("airflow-logs")
    assert [each["Operand"] for each in group["Constraints"] or []] == ["distinct_hosts"]


@every_job
def test_every_resource_has_its_reason(job_id: str) -> None:
    text = DEPLOYMENTS[job_id].file.read_text()
    numbers = re.findall(r"^ +(?:cpu|memory) +=.*$", text, re.MULTILINE)
    assert numbers
    assert [line for line in numbers if "#" not in line] == []


@platform_job
def test_a_service_outwaits_a_migration(job_id: str) -> None:
    for waits in re.findall(r'migration-wait-timeout", "(\d+)"', json.dumps(tasks(job_id))):
        deadline = rendered(job_id)["Update"]["HealthyDeadline"] / 1e9
        assert deadline > float(waits)


@platform_job
def test_a_service_is_checked_restarted_and_reverted(job_id: str) -> None:
    job = rendered(job_id)
    if job["Type"] == "batch":
        assert job["Update"] is None
        assert not any(group["Services"] for group in groups(job_id))
        return
    if job["Type"] == "service":
        update = job["Update"]
        assert update["AutoRevert"] is True
        assert update["HealthCheck"] == "checks"
        assert update["ProgressDeadline"] > update["HealthyDeadline"] > update["MinHealthyTime"]
    for group in groups(job_id):
        services = group["Services"]
        assert services, "no service, so no check"
        for service in services:
            assert service["Provider"] == "nomad"
            assert service["Checks"], service["Name"]
            for check in service["Checks"]:
                assert check["Type"] in {"http", "tcp"}
                assert check["CheckRestart"] is not None, service["Name"]
                assert check["CheckRestart"]["Limit"] > 0
                assert check["CheckRestart"]["Grace"] >= 30 * SECOND


@every_job
def test_a_port_is_a_services_and_a_services_port_is_a_ports(job_id: str) -> None:
    for group in groups(job_id):
        labels = {
            port["Label"]
            for network in group["Networks"] or []
            for port in [*(network["ReservedPorts"] or []), *(network["DynamicPorts"] or [])]
        }
        services = group["Services"] or []
        asked = {check["PortLabel"] for service in services for check in service["Checks"]} - {""}
        assert labels == {service["PortLabel"] for service in services} | asked
        used = {port for task in group["Tasks"] for port in task["Config"].get("ports", [])}
        assert labels == used


@every_job
def test_a_periodic_job_does_not_overlap_and_counts_in_utc(job_id: str) -> None:
    periodic = rendered(job_id)["Periodic"]
    if periodic:
        assert periodic["ProhibitOverlap"] is True
        assert periodic["TimeZone"] == "UTC"


def _seconds(duration: str) -> int:
    (parts,) = re.findall(r"^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$", duration)
    return sum(int(n or 0) * unit for n, unit in zip(parts, (3600, 60, 1), strict=True))


def _client(agent: Any) -> dict[str, Any]:
    with agent.open() as file:
        return hcl2.load(file)["client"][0]  # type: ignore[no-any-return]


AGENTS = [
    path
    for path in sorted(ROOT.glob("nomad/agents/*.hcl"))
    if re.search(r"^client \{", path.read_text(), re.MULTILINE)
]


@pytest.mark.programs
@pytest.mark.parametrize("agent", AGENTS, ids=lambda path: path.name)
def test_the_client_lets_every_task_end_in_its_own_time(agent: Any) -> None:
    allowed = _seconds(_client(agent)["max_kill_timeout"].strip('"')) * SECOND
    jobs = [(job_id, LOCAL) for job_id in DEPLOYMENTS]
    jobs += [(job_id, file) for job_id in PLATFORM for file in VARIABLE_FILES if file != LOCAL]
    for job_id, variables in jobs:
        for group in rendered(job_id, variables)["TaskGroups"]:
            for task in group["Tasks"]:
                assert (task["KillTimeout"] or 0) <= allowed, f"{job_id}: {task['Name']}"


@pytest.mark.parametrize("agent", AGENTS, ids=lambda path: path.name)
def test_the_client_allows_the_capabilities_that_jobs_add_and_no_others(agent: Any) -> None:
    used = {cap for job in TABLE.values() for task in job.tasks.values() for cap in task.cap_add}
    (allowed,) = re.findall(r"allow_caps = (\[.*\])", agent.read_text())
    assert set(json.loads(allowed)) == used


def test_this_machine_has_a_volume_for_each_that_jobs_name() -> None:
    used = {
        volume
        for job in TABLE.values()
        for task in job.tasks.values()
        for volume in task.volumes
    }  # fmt: skip
    assert used == set(HOST_VOLUMES)


def test_a_volume_belongs_to_a_user_that_writes_it() -> None:
    for job in TABLE.values():
        for task in job.tasks.values():
            for volume, path in task.volumes.items():
                owner, mode = HOST_VOLUMES[volume]
                if not path.endswith(":ro") and not mode & 0o002:
                    assert task.user.split(":")[0] == str(owner), volume


def test_the_ports_that_jobs_hold_are_those_that_are_looked_at_before_the_start() -> None:
    held = {port for job in TABLE.values() for port, _ in job.ports.values() if port}
    agents = set(PORTS["Nomad"]) | set(PORTS["Vault"])
    assert {port for ports in PORTS.values() for port in ports} - agents == held


def _blocks(name: str, body: Any) -> Any:
    """Yield (block's name, its body) for ``body`` and all that is nested in it."""
    if isinstance(body, list):
        for each in body:
            yield from _blocks(name, each)
    elif isinstance(body, dict):
        yield name.strip('"'), body
        for key, value in body.items():
            # A label's own name stands for the block that carries it: group "x" {…}.
            yield from _blocks(name if key.startswith('"') else key, value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_nothing_is_used_that_nomad_2_does_not_know(file: Any) -> None:
    with file.open() as text:
        parsed = hcl2.load(text)
    used = [
        f"{block}.{key} ({DROPPED[block][key]})"
        for block, body in _blocks("file", parsed)
        for key in body
        if key in DROPPED.get(block, {})
    ]
    assert not used

"""Tasks through the two Redis servers of the job: its own users, and as little as they may."""

from __future__ import annotations

import configparser
import functools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import redis
import requests
from redis.exceptions import NoPermissionError, OutOfMemoryError

from frame import trust
from scripts.repository import ROOT
from tests.airflow.harmattan.running import environment
from tests.conftest import free_port
from tests.nomad.rendering import DEPLOYMENTS, output, tasks
from tests.tls import PUBLIC, Authority

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.programs

TRUSTING = [sys.executable, "-m", "frame.trust", sys.executable]
USERS = ("scheduler", "worker-analysts")
# What a scheduler does: one line a command, and an answer to each.
DRIVER = """
import sys, uuid
from airflow.executors.workloads import BundleInfo, ExecuteTask, TaskInstance
from harmattan.executor import PatientCeleryExecutor

executor = PatientCeleryExecutor(parallelism=32)
executor.start()
for line in sys.stdin:
    match line.split():
        case ["queue", name, *queue]:
            ti = TaskInstance(
                id=uuid.uuid4(), dag_version_id=uuid.uuid4(), task_id=name, dag_id="d", run_id="r",
                try_number=1, map_index=-1, pool_slots=1, queue=(queue or ["analysts"])[0],
                priority_weight=1)
            work = ExecuteTask(ti=ti, dag_rel_path="none.py", token="", log_path=None,
                bundle_info=BundleInfo(name="none"))
            executor.queued_tasks[work.ti.key] = work
        case ["beat"]:
            executor.heartbeat()
        case ["revoke"]:
            executor.revoke_task(ti=ti)
    ended = {key.task_id: str(state[0]) for key, state in executor.event_buffer.items()}
    print("OK", len(executor.queued_tasks), *(f"{k}={v}" for k, v in ended.items()), flush=True)
"""


class Servers:
    """The servers of the job redis, on ports of their own, with one password a user."""

    def __init__(self, home: Path, authority: Authority | None = None) -> None:
        self.home = home
        self.authority = authority
        self.passwords = {user: secrets.token_urlsafe(8) for user in USERS}
        self.ports = {"broker": free_port(), "results": free_port()}

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        servers = _tasks("redis", tls=bool(self.authority))
        (task,) = [each for each in servers if each["Name"] == name]
        rights = task["Templates"][0]["EmbeddedTmpl"]
        for user, password in self.passwords.items():
            rights = re.sub(
                rf"(user {user} on )#\{{\{{.*?\{{\{{ end \}}\}}", rf"\1>{password}", rights
            )
        file = self.home / f"{name}.acl"
        file.write_text(rights)
        program, *options = task["Config"]["args"]
        if self.authority:
            certificate, key = self.authority.issue(self.home)
            options[options.index("--tls-cert-file") + 1] = str(certificate)
            options[options.index("--tls-key-file") + 1] = str(key)
        port = "--tls-port" if self.authority else "--port"
        options[options.index("--aclfile") + 1] = str(file)
        options[options.index("--bind") + 1] = "127.0.0.1"
        command = [program, *options, port, str(self.ports[name])]
        with (
            (self.home / f"{name}.log").open("ab") as log,
            subprocess.Popen(command, stdout=log) as server,
        ):
            try:
                wait_for(lambda: self.as_user("health", name).ping())
                yield
            finally:
                server.terminate()

    def as_user(self, user: str, server: str) -> redis.Redis:
        return redis.Redis(
            "127.0.0.1",
            self.ports[server],
            username=user,
            password=self.passwords.get(user, "none"),
            ssl=bool(self.authority),
            ssl_ca_data=self.authority and self.authority.pem,
        )

    def url(self, user: str, server: str) -> str:
        """Return the URL as the template of the user's job has it."""
        job = "airflow-scheduler" if user == "scheduler" else "airflow-worker-analysts"
        name = "broker_url" if server == "broker" else "results_url"
        (text,) = [
            each["EmbeddedTmpl"]
            for task in _tasks(job, tls=bool(self.authority))
            for each in task["Templates"] or []
            if each["DestPath"].endswith(name)
        ]
        scheme, _, rest = text.partition("://")
        options = rest.rpartition("{{ end }}")[2]
        return f"{scheme}://{user}:{self.passwords[user]}@127.0.0.1:{self.ports[server]}{options}"

    def settings(self, user: str, **more: str) -> dict[str, str]:
        return {
            **environment(self.home),
            "AIRFLOW_CONFIG": str(ROOT / "airflow/config/airflow.cfg"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/none.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.home),
            "AIRFLOW__CELERY__BROKER_URL": self.url(user, "broker"),
            "AIRFLOW__CELERY__RESULT_BACKEND": self.url(user, "results"),
            "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
            "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
            "SSL_CERT_FILE": PUBLIC,
            "TMPDIR": str(self.home),
            trust.OWN: self.authority.pem if self.authority else "",
            **more,
        }


@functools.cache
def _tasks(job_id: str, *, tls: bool) -> list[dict[str, Any]]:
    if not tls:
        return tasks(job_id)
    done = output(DEPLOYMENTS[job_id], redis_tls="true")
    groups = json.loads(done.stdout)["Job"]["TaskGroups"]
    return [task for group in groups for task in group["Tasks"]]


def wait_for(look: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if look():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Servers:
    return Servers(tmp_path_factory.mktemp("redis"))


@dataclass
class Scheduler:
    """A process with the executor."""

    process: subprocess.Popen[str]

    def tell(self, command: str) -> tuple[int, dict[str, str]]:
        """Return how many tasks it still has to send, and what it has heard of the others."""
        assert self.process.stdin
        assert self.process.stdout
        print(command, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("OK "):
                _, queued, *ended = line.split()
                return int(queued), dict(each.split("=") for each in ended)
        raise AssertionError("the scheduler ended")

    def send(self) -> dict[str, str]:
        """Let it send all that it has, which a busy broker may not take at once."""
        heard: list[dict[str, str]] = []

        def sent() -> bool:
            queued, ended = self.tell("beat")
            heard.append(ended)
            return queued == 0

        wait_for(sent)
        return heard[-1]


@contextmanager
def scheduler(servers: Servers, **more: str) -> Iterator[Scheduler]:
    with (
        (servers.home / "scheduler.log").open("ab") as log,
        subprocess.Popen(
            [*TRUSTING, "-c", DRIVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, stderr=log,
            env=servers.settings("scheduler", **more),
        ) as process,
    ):  # fmt: skip
        try:
            yield Scheduler(process)
        finally:
            process.kill()


@contextmanager
def worker(servers: Servers, pool: str = "analysts", **more: str) -> Iterator[Path]:
    sign, log = servers.home / "sign", servers.home / f"worker-{free_port()}.log"
    with (
        log.open("ab") as output,
        subprocess.Popen(
            [*TRUSTING, "-m", "harmattan.worker", str(sign), pool, "--concurrency", "1"],
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env=servers.settings(f"worker-{pool}", **more),
        ) as process,
    ):  # fmt: skip
        try:
            wait_for(lambda: "ready." in log.read_text(), 60)
            yield log
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_task_waits_for_a_broker_that_is_away_and_ends(servers: Servers) -> None:
    with ExitStack() as stack:
        stack.enter_context(servers.running("results"))
        one = stack.enter_context(scheduler(servers))
        one.tell("queue first")
        one.tell("queue second")
        # Nobody takes them: they stay, and nothing has failed.
        assert one.tell("beat") == (2, {})
        assert one.tell("beat") == (2, {})
        stack.enter_context(servers.running("broker"))
        assert set(one.send()) == {"first", "second"}
        log = stack.enter_context(worker(servers))
        # No api-server is there: what counts is that the worker took both and said how they ended.
        wait_for(lambda: set(one.tell("beat")[1].values()) == {"failed"})
        said = log.read_text()
        assert "NOPERM" not in said
        assert said.count("received") == 2


def test_with_tls_a_task_goes_there_and_back_and_nobody_connects_without(
    tmp_path: Path,
) -> None:
    servers = Servers(tmp_path, Authority())
    with ExitStack() as stack:
        for name in ("broker", "results"):
            stack.enter_context(servers.running(name))
        one = stack.enter_context(scheduler(servers))
        log = stack.enter_context(worker(servers))
        one.tell("queue first")
        one.send()
        wait_for(lambda: set(one.tell("beat")[1].values()) == {"failed"})
        assert log.read_text().count("received") == 1
        for name, port in servers.ports.items():
            assert servers.as_user("health", name).ping()
            for otherwise in ({}, {"ssl": True, "ssl_ca_data": Authority().pem}):
                stranger = redis.Redis("127.0.0.1", port, username="health", **otherwise)
                with pytest.raises(redis.ConnectionError):
                    stranger.ping()


def test_a_queue_that_nobody_serves_fails_its_task_and_holds_up_no_other(servers: Servers) -> None:
    with ExitStack() as stack:
        for name in ("broker", "results"):
            stack.enter_context(servers.running(name))
        one = stack.enter_context(scheduler(servers))
        for words in ("lost elsewhere", "first", "lost_too elsewhere", "second"):
            one.tell(f"queue {words}")
        assert one.send() == {
            "lost": "failed", "first": "queued", "lost_too": "failed", "second": "queued",
        }  # fmt: skip


def _brief(seconds: int) -> dict[str, Any]:
    """Return the product's own settings of Celery, with messages that expire sooner."""
    config = configparser.ConfigParser()
    config.read(ROOT / "airflow/config/airflow.cfg")
    found: dict[str, Any] = json.loads(config["celery"]["extra_celery_config"])
    kept = found["task_annotations"]["execute_workload"]
    assert kept["expires"] == config.getint("scheduler", "task_queued_timeout")
    kept["expires"] = seconds
    return found


def test_an_old_message_is_thrown_away(servers: Servers) -> None:
    with ExitStack() as stack:
        for name in ("broker", "results"):
            stack.enter_context(servers.running(name))
        one = stack.enter_context(
            scheduler(servers, AIRFLOW__CELERY__EXTRA_CELERY_CONFIG=json.dumps(_brief(1)))
        )
        one.tell("queue late")
        one.send()
        one.tell("revoke")
        time.sleep(1.1)
        log = stack.enter_context(worker(servers))
        wait_for(lambda: "Discarding revoked task" in log.read_text())
        assert "raised" not in log.read_text()


def test_each_user_may_do_its_own_and_nothing_else(servers: Servers) -> None:
    with ExitStack() as stack:
        for name in ("broker", "results"):
            stack.enter_context(servers.running(name))
        scheduler, analysts = (
            servers.as_user(user, "broker") for user in ("scheduler", "worker-analysts")
        )
        scheduler.lpush("analysts", "x")
        assert analysts.brpop("analysts", 1)
        for words in (
            ("LPUSH", "analysts", "x"),
            ("BRPOP", "ingest", "1"),
            ("SADD", "_kombu.binding.analysts", "x"),
            ("SET", "x", "y"),
            ("EVAL", "while true do end", "0"),
            ("SCRIPT", "LOAD", "while true do end"),
            ("PUBLISH", "/0.celery.pidbox", "x"),
            ("CONFIG", "GET", "*"),
            ("CLIENT", "LIST"),
            ("ACL", "LIST"),
            ("KEYS", "*"),
            ("FLUSHALL",),
        ):
            with pytest.raises(NoPermissionError):
                analysts.execute_command(*words)
        for words in (("GET", "x"), ("ECHO", "x"), ("SUBSCRIBE", "x"), ("CLIENT", "KILL", "x")):
            with pytest.raises(NoPermissionError):
                servers.as_user("health", "broker").execute_command(*words)


def test_who_fills_the_results_stops_no_task(servers: Servers) -> None:
    with ExitStack() as stack:
        for name in ("broker", "results"):
            stack.enter_context(servers.running(name))
        stranger = servers.as_user("worker-analysts", "results")
        with pytest.raises(OutOfMemoryError):
            for number in range(1000):
                stranger.set(f"celery-task-meta-{number}", b"x" * 1_000_000)
        assert servers.as_user("scheduler", "results").get("celery-task-meta-0")
        assert servers.as_user("scheduler", "broker").lpush("analysts", "x") == 1


@pytest.mark.parametrize("tls", [False, True])
def test_health_asks_both(servers: Servers, tmp_path: Path, tls: bool) -> None:
    """By the command of the job file, as Nomad runs it."""
    (task,) = [each for each in _tasks("redis", tls=tls) if each["Name"] == "health"]
    options = task["Env"]["TLS"]
    if tls:
        servers = Servers(tmp_path, Authority())
        assert servers.authority
        (tmp_path / "ca.pem").write_text(servers.authority.pem)
        options = options.replace("/local", str(tmp_path))
    port = free_port()
    (tmp_path / "answer").symlink_to(ROOT / "nomad/images/redis/answer.sh")
    addresses = {
        f"NOMAD_ADDR_{name}": f"127.0.0.1:{number}" for name, number in servers.ports.items()
    }
    command = [word.replace("LISTEN:8379", f"LISTEN:{port}") for word in task["Config"]["args"]]
    path = f"{tmp_path}:{os.environ['PATH']}"
    with subprocess.Popen(command, env={"PATH": path, "TLS": options, **addresses}) as serving:

        def ask() -> int:
            return requests.get(f"http://127.0.0.1:{port}/", timeout=20).status_code

        try:
            with servers.running("broker"):
                assert ask() == requests.codes.service_unavailable
                with servers.running("results"):
                    assert ask() == requests.codes.ok
        finally:
            serving.terminate()

"""A real Nomad agent of the test run's own, on ports that nothing else listens on."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from scripts.cluster import Nomad, NomadError, connect
from scripts.tools import NOMAD, ensure
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_AGENT = """
name      = "test"
bind_addr = "127.0.0.1"
data_dir  = "{home}/data"
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
advertise {{
  http = "127.0.0.1"
  rpc  = "127.0.0.1"
  serf = "127.0.0.1"
}}
disable_update_check = true
"""
_SERVER = """
server {
  enabled          = true
  bootstrap_expect = 1
}
"""
_ACL = """
acl {
  enabled = true
}
"""
# As in nomad/agents; LOGIN is the mount of the login.
_VAULT = """
vault {
  enabled               = true
  address               = "ADDRESS"
  jwt_auth_backend_path = "LOGIN"
  default_identity {
    aud = ["vault.io"]
    ttl = "1h"
  }
}
"""
# It starts plain processes, as root.
_CLIENT = """
client {
  enabled           = true
  servers           = ["SERVER"]
  network_interface = "lo"
  cpu_total_compute = 10000
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean,consul,cni"
    "driver.allowlist"     = "raw_exec"
  }
}
plugin "raw_exec" {
  config {
    enabled = true
  }
}
"""


@contextmanager
def running_agent(home: Path, *, client: bool = False) -> Iterator[str]:
    """Run a server, and a ``client`` in it, with its data in ``home``; yield its address.

    It may not answer yet.
    """
    ports = _ports()
    more = _SERVER + (_CLIENT.replace("SERVER", f"127.0.0.1:{ports['rpc']}") if client else "")
    _configure(home, ports, more)
    agent = _start(home)
    try:
        yield f"http://127.0.0.1:{ports['http']}"
    finally:
        agent.terminate()
        agent.wait(30)


@dataclass
class Server:
    """A server that asks for tokens; ``token`` is its first."""

    home: Path
    ports: dict[str, int]
    process: subprocess.Popen[bytes]
    token: str = ""

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.ports['http']}"

    def restart(self) -> None:
        """Kill it and start it again with the state that it has on disk, until it answers."""
        self.process.kill()
        self.process.wait(30)
        self.process = _start(self.home)
        _asked("GET", f"{self.address}/v1/acl/tokens", self.token)


@contextmanager
def running_cluster(home: Path, *, vault: str = "", login: str = "") -> Iterator[Server]:
    """Run a server that asks for tokens, and a client; tasks log in to the Vault at ``vault``.

    They are two agents: a client that comes before the server's keys waits for a quarter minute.
    """
    for name in ("server", "client"):
        (home / name).mkdir()
    ports = _ports()
    both = _ACL + (_VAULT.replace("ADDRESS", vault).replace("LOGIN", login) if vault else "")
    _configure(home / "server", ports, _SERVER + both)
    joined = _CLIENT.replace("SERVER", f"127.0.0.1:{ports['rpc']}")
    _configure(home / "client", _ports(), joined + both)
    server = Server(home / "server", ports, _start(home / "server"))
    try:
        server.token = _bootstrap(server.address)
        client = _start(home / "client")
        try:
            yield server
        finally:
            client.terminate()
            client.wait(30)
    finally:
        server.process.terminate()
        server.process.wait(30)


def _bootstrap(address: str) -> str:
    """Return the first token of a server, when it has a leader and keys."""
    answer = _asked("POST", f"{address}/v1/acl/bootstrap", "")
    token = str(answer.json()["SecretID"])
    _asked("GET", f"{address}/.well-known/jwks.json", token)
    return token


def _asked(method: str, url: str, token: str) -> requests.Response:
    """Return the first good answer within 30 s."""
    for _ in range(150):
        try:
            answer = requests.request(method, url, headers={"X-Nomad-Token": token}, timeout=5)
            if answer.ok and answer.json() != {"keys": []}:
                return answer
        except requests.ConnectionError:
            pass
        time.sleep(0.2)
    raise TimeoutError(url)


def _ports() -> dict[str, int]:
    return {name: free_port() for name in ("http", "rpc", "serf")}


def _configure(home: Path, ports: dict[str, int], more: str) -> None:
    (home / "agent.hcl").write_text(_AGENT.format(home=home, **ports) + more)


def _start(home: Path) -> subprocess.Popen[bytes]:
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            [ensure(NOMAD), "agent", f"-config={home / 'agent.hcl'}"],
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            stdout=log, stderr=log, cwd=home,
        )  # fmt: skip


@contextmanager
def running_client(home: Path) -> Iterator[Nomad]:
    """Run a server with a client in it and yield its API as soon as a job can run."""
    with running_agent(home, client=True) as address:
        nomad = connect(address, None)

        def is_ready() -> bool:
            try:
                return any(node["Status"] == "ready" for node in nomad.nodes.get_nodes())
            except NomadError:
                return False

        _until(is_ready, 60)
        try:
            yield nomad
        finally:
            _remove_all(nomad, home / "data/alloc")


def _remove_all(nomad: Nomad, folder: Path) -> None:
    """Have every job's allocations removed, with what is mounted in their ``folder``."""
    for job in nomad.jobs.get_jobs(namespace="*"):
        nomad.job.deregister_job(job["ID"], namespace=job["Namespace"], purge=True)

    def removed() -> bool:
        nomad.system.initiate_garbage_collection()
        return not any(folder.iterdir())

    _until(removed, 30)


def _until(found: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.2)

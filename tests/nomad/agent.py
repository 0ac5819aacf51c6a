"""A real Nomad agent of the test run's own, on ports that nothing else listens on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from scripts.cluster import Nomad, NomadError, connect
from scripts.tools import NOMAD, ensure
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_AGENT = """
name      = "{name}"
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
# It takes a client for dead after a second or two, where a cluster takes a quarter of a minute.
_QUICK = """
server {
  enabled          = true
  bootstrap_expect = 1
  min_heartbeat_ttl = "1s"
  heartbeat_grace   = "1s"
}
"""
# One of several that elect a leader, within seconds.
_ONE_OF_SEVERAL = """
server {{
  enabled          = true
  bootstrap_expect = {servers}
  raft_multiplier  = 1
  server_join {{
    retry_join     = {addresses}
    retry_interval = "1s"
  }}
}}
"""
_ACL = """
acl {
  enabled                  = true
  token_max_expiration_ttl = "2160h"
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
# It starts plain processes, as root. A disk that a test has filled stays full: otherwise the client
# would remove dead allocations to make room.
_CLIENT = """
client {
  enabled                 = true
  servers                 = ["SERVER"]
  network_interface       = "lo"
  cpu_total_compute       = 10000
  gc_disk_usage_threshold = 100
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
def running_agent(home: Path) -> Iterator[str]:
    """Run a server alone with its data in ``home``; yield its address. It may not answer yet."""
    ports = _ports()
    _configure(home, ports, _SERVER)
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
def running_server(home: Path) -> Iterator[Server]:
    """Run a server that asks for tokens, without a client: what is registered waits."""
    ports = _ports()
    _configure(home, ports, _SERVER + _ACL)
    server = Server(home, ports, _start(home))
    try:
        server.token = _bootstrap(server.address)
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)


@dataclass
class Node:
    """A client that is a machine of its own: its tasks and mounts end with it.

    With a ``disk``, its data are on one of so many MB, which is empty whenever it starts.
    """

    home: Path
    disk: int | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The folder of its data, as others see it."""
        assert self.process is not None
        pid = self.process.pid
        child = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]
        return Path(f"/proc/{child}/root{self.home}/data")

    def start(self) -> None:
        """Start it; with the data of its life before, if it keeps any."""
        (self.home / "data").mkdir(exist_ok=True)
        mount = f"mount -t tmpfs -o size={self.disk}m disk {self.home}/data"
        mount = mount if self.disk else "true"
        agent = f"exec {ensure(NOMAD)} agent -config={self.home}/agent.hcl"
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                 "sh", "-c", f"{mount} && {agent}"],
                env={"PATH": os.environ["PATH"], "HOME": str(self.home)},
                stdout=log, stderr=log, cwd=self.home,
            )  # fmt: skip

    def die(self) -> None:
        """Lose it at once, with all that runs on it."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None


@contextmanager
def running_cluster(
    home: Path, *, vault: str = "", login: str = ""
) -> Iterator[tuple[Server, Node]]:
    """Run a server that asks for tokens, and a node; tasks log in to the Vault at ``vault``.

    They are two agents: a client that comes before the server's keys waits for a quarter minute.
    """
    node = Node(home / "node")
    for folder in (home / "server", node.home):
        folder.mkdir()
    ports = _ports()
    both = _ACL + (_VAULT.replace("ADDRESS", vault).replace("LOGIN", login) if vault else "")
    _configure(home / "server", ports, _SERVER + both)
    joined = _CLIENT.replace("SERVER", f"127.0.0.1:{ports['rpc']}")
    _configure(node.home, _ports(), joined + both)
    server = Server(home / "server", ports, _start(home / "server"))
    try:
        server.token = _bootstrap(server.address)
        node.start()
        yield server, node
    finally:
        node.die()
        server.process.terminate()
        server.process.wait(30)


@dataclass
class Servers:
    """Servers of one cluster, by their addresses, and the ``address`` of a client of theirs.

    The client asks whichever of them is there; ``token`` is the first of the cluster.
    """

    home: Path
    by_address: dict[str, Server]
    address: str
    token: str

    def kill_leader(self) -> Server:
        """Kill the server that leads, and return it."""
        leader = _asked("GET", f"{self.address}/v1/status/leader", "").json()
        server = self.by_address[leader]
        server.process.kill()
        server.process.wait(30)
        return server

    def restart(self) -> None:
        """Kill all of them and start them again, until they have a leader and answer."""
        for server in self.by_address.values():
            server.process.kill()
            server.process.wait(30)
        for server in self.by_address.values():
            server.process = _start(server.home)
        _asked("GET", f"{self.address}/v1/acl/tokens", self.token)


@contextmanager
def running_servers(home: Path, number: int = 3) -> Iterator[Servers]:
    """Run several servers that ask for tokens, and a client."""
    ports = [_ports() for _ in range(number)]
    serf = [f"127.0.0.1:{each['serf']}" for each in ports]
    rpc = [f"127.0.0.1:{each['rpc']}" for each in ports]
    several = _ONE_OF_SEVERAL.format(servers=number, addresses=json.dumps(serf)) + _ACL
    own = _ports()
    joined = _CLIENT.replace('["SERVER"]', json.dumps(rpc)) + _ACL
    servers: dict[str, Server] = {}
    node = Node(home / "node")
    try:
        for index, address in enumerate(rpc):
            folder = home / f"server{index}"
            folder.mkdir()
            _configure(folder, ports[index], several, f"server{index}")
            servers[address] = Server(folder, ports[index], _start(folder))
        token = _bootstrap(servers[rpc[0]].address)
        for server in servers.values():
            server.token = token
        node.home.mkdir()
        _configure(node.home, own, joined)
        node.start()
        yield Servers(home, servers, f"http://127.0.0.1:{own['http']}", token)
    finally:
        node.die()
        for server in servers.values():
            server.process.terminate()
        for server in servers.values():
            server.process.wait(30)


@contextmanager
def running_nodes(
    home: Path, disks: Mapping[str, int | None]
) -> Iterator[tuple[Nomad, dict[str, Node]]]:
    """Run a server and the named nodes, each with its disk.

    It yields the server's API when all nodes are ready.
    """
    ports = _ports()
    (home / "server").mkdir()
    _configure(home / "server", ports, _QUICK)
    server = _start(home / "server")
    nodes = {name: Node(home / name, disk) for name, disk in disks.items()}
    address = f"http://127.0.0.1:{ports['http']}"
    try:
        _asked("GET", f"{address}/.well-known/jwks.json", "")
        for name, node in nodes.items():
            node.home.mkdir()
            joined = _CLIENT.replace("SERVER", f"127.0.0.1:{ports['rpc']}")
            _configure(node.home, _ports(), joined, name)
            node.start()
        client = connect(address, None)
        _until(lambda: _ready(client) == set(disks), 60)
        yield client, nodes
    finally:
        for node in nodes.values():
            node.die()
        server.terminate()
        server.wait(30)


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
        except (requests.ConnectionError, requests.Timeout):
            pass
        time.sleep(0.2)
    raise TimeoutError(url)


def _ports() -> dict[str, int]:
    return {name: free_port() for name in ("http", "rpc", "serf")}


def _configure(home: Path, ports: dict[str, int], more: str, name: str = "test") -> None:
    (home / "agent.hcl").write_text(_AGENT.format(home=home, name=name, **ports) + more)


def _start(home: Path) -> subprocess.Popen[bytes]:
    with (home / "log").open("ab") as log:
        return subprocess.Popen(
            [ensure(NOMAD), "agent", f"-config={home / 'agent.hcl'}"],
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            stdout=log, stderr=log, cwd=home,
        )  # fmt: skip


def _ready(nomad: Nomad) -> set[str]:
    """Return the names of the nodes on which a job can run."""
    try:
        return {each["Name"] for each in nomad.nodes.get_nodes() if each["Status"] == "ready"}
    except NomadError:
        return set()


def _until(found: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.2)

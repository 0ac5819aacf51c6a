"""A real Nomad agent of the test run's own, on ports that nothing else listens on."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scripts.tools import NOMAD, ensure
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SERVER = """
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
server {{
  enabled          = true
  bootstrap_expect = 1
}}
disable_update_check = true
"""
# It starts plain processes, as root.
_CLIENT = """
client {
  enabled           = true
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
    ports = {name: free_port() for name in ("http", "rpc", "serf")}
    configuration = home / "agent.hcl"
    configuration.write_text(_SERVER.format(home=home, **ports) + (_CLIENT if client else ""))
    with (home / "log").open("wb") as log:
        agent = subprocess.Popen(
            [ensure(NOMAD), "agent", f"-config={configuration}"],
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            stdout=log, stderr=log, cwd=home,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{ports['http']}"
    finally:
        agent.terminate()
        agent.wait(30)

"""`deploy` as it is typed, beside a port, a program, a disk and a node that stop its jobs.

The command is that of a tree of its own, whose job files are plain processes under the names of the
platform's.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from scripts.repository import ROOT
from tests.conftest import free_port
from tests.nomad.agent import running_nodes

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.programs

JOB = """
variable "namespace" {{
  type = string
}}

job "{name}" {{
  namespace = var.namespace

  group "group" {{
    constraint {{
      attribute = "${{node.unique.name}}"
      value     = "{node}"
    }}

    restart {{
      attempts = 0
      mode     = "fail"
    }}

    reschedule {{
      delay          = "5s"
      delay_function = "constant"
      unlimited      = true
    }}

    ephemeral_disk {{
      size = 10 # MB
    }}

    task "task" {{
      driver = "raw_exec"

      config {{
        command = "{program}"
        args    = {arguments}
      }}

      logs {{
        max_files     = 1
        max_file_size = 1 # MB
      }}

      resources {{
        cpu    = 20
        memory = 16
      }}
    }}
  }}
}}
"""


@dataclass
class Tree:
    """The operators' commands beside job files of a test."""

    root: Path

    def job(self, name: str, node: str, program: str, *arguments: str) -> None:
        words = ", ".join(f'"{each}"' for each in arguments)
        text = JOB.format(name=name, node=node, program=program, arguments=f"[{words}]")
        (self.root / f"nomad/jobs/{name}.nomad.hcl").write_text(text)

    def deploy(self, address: str, timeout: int) -> subprocess.Popen[str]:
        """Start `deploy` for all jobs that the tree has."""
        jobs = [file.name.removesuffix(".nomad.hcl") for file in self.root.glob("nomad/jobs/*")]
        return subprocess.Popen(
            [sys.executable, "-m", "scripts.deploy", "--var-file=nomad/vars.hcl",
             f"--timeout={timeout}", *jobs],
            cwd=self.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "COLUMNS": "300", "NOMAD_ADDR": address,
                 "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    root = tmp_path / "tree"
    shutil.copytree(
        ROOT / "scripts", root / "scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    (root / "nomad/jobs").mkdir(parents=True)
    (root / "nomad/vars.hcl").write_text('namespace = "default"\n')
    for name in ("nomad/local", "nomad/sources.toml", "nomad/containers.toml", ".tools"):
        if (ROOT / name).exists():
            (root / name).symlink_to(ROOT / name)
    return Tree(root)


def test_each_cause_is_named_until_it_is_gone_and_then_deploy_ends_well(
    tree: Tree, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.fail("Nomad's client needs root: run this test as root")
    home, port, program = tmp_path / "nomad", free_port(), tmp_path / "program"
    home.mkdir()
    serve = ("-m", "http.server", "--bind", "127.0.0.1", str(port))
    tree.job("redis", "large", shutil.which("python3") or "", *serve)
    tree.job("dag-mirror", "large", str(program))
    tree.job("airflow-migrate", "small", "/bin/sleep", "600")
    tree.job("airflow-logs", "lost", "/bin/sleep", "600")
    disks = {"large": None, "small": 96, "lost": None}
    with (
        running_nodes(home, disks) as (client, nodes),
        socket.create_server(("127.0.0.1", port)) as taken,
    ):
        rest = nodes["small"].data / "rest"
        for size in (1 << 16, 1):  # to the last byte: a task's files are small
            with pytest.raises(OSError, match="No space"), rest.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(size))
        nodes["lost"].die()
        failing = tree.deploy(client.address, 10)
        said, _ = failing.communicate(timeout=60)
        assert failing.returncode == 1, said
        assert said.count("HINT:") == 1
        assert "Traceback" not in said
        for job_id, cause in {
            "redis": "Address already in use (on node large)",
            "dag-mirror": str(program)[-20:],
            "airflow-migrate": "no space left on device (on node small)",
            "airflow-logs": "node lost is down",
        }.items():
            (line,) = [each for each in said.splitlines() if each.startswith(f"  {job_id}")]
            assert cause in line, said

        waiting = tree.deploy(client.address, 120)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(5)
        taken.close()
        program.write_text("#!/bin/sh\nexec sleep 600\n")
        program.chmod(0o755)
        rest.unlink()
        nodes["lost"].start()
        said, _ = waiting.communicate(timeout=150)
        assert waiting.returncode == 0, said

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from frame.failure import WrongUse
from scripts.egress import resolved, targets
from scripts.repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = ROOT / "scripts/egress.py"
VARIABLES = """\
vault_url             = "http://10.99.0.1:7001"
airflow_url           = "http://10.98.0.2:7001"
dag_mirror_url        = "git://10.98.0.2"
redis_address         = "10.98.0.2:7003"
redis_results_address = "10.98.0.2:7003"
"""
# A node of its own: a container at the analysts' bridge, one at Docker's, a host behind the node.
NODE = r"""
set -eu
connect() {  # NAME BRIDGE ADDRESS ROUTE: a container
  unshare --net sleep 60 >&- 2>&- & eval "$1=$!"
  until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.02; done
  ip link add "to-$1" type veth peer name eth0 netns $!
  if [ "$2" ]; then ip link set "to-$1" master "$2"; fi
  ip link set "to-$1" up
  in_net $! ip address add "$3" dev eth0
  in_net $! ip link set eth0 up
  in_net $! ip route add default via "$4"
}
in_net() { pid=$1; shift; nsenter --target "$pid" --net "$@"; }
listen() { "$@" python3 -c '
import socket, time
for port in (7001, 7002, 7003, 9418):
    globals()[f"s{port}"] = socket.create_server(("", port))
open(__import__("sys").argv[1], "w").close(); time.sleep(60)' "$ready" >&- 2>&- &
  servers="$servers $!"
  until [ -e "$ready" ]; do sleep 0.02; done; rm "$ready"
}
try() {  # NAME PID ADDRESS: which ports answer
  printf '%s %s:' "$1" "$3"
  for port in 7001 7002 7003 9418; do
    in_net "$2" timeout 3 python3 -c '
import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)' "$3" $port \
      2>/dev/null && printf ' %s' $port
  done
  echo
}
ready=$1/ready servers=
trap 'kill $analyst $other $remote $servers 2>/dev/null' EXIT
ip link set lo up
for bridge in analysts0:10.99.0.1 docker0:10.97.0.1; do
  ip link add "${bridge%:*}" type bridge
  ip address add "${bridge#*:}/24" dev "${bridge%:*}"
  ip link set "${bridge%:*}" up
done
echo 1 > /proc/sys/net/ipv4/ip_forward
connect analyst analysts0 10.99.0.2/24 10.99.0.1
connect other docker0 10.97.0.2/24 10.97.0.1
connect remote '' 10.98.0.2/24 10.98.0.1
ip address add 10.98.0.1/24 dev to-remote
listen
listen in_net $remote
listen in_net $analyst
for _ in 1 2; do nft -f "$1/rules.nft"; done
try analyst $analyst 10.99.0.1
try analyst $analyst 10.98.0.2
try other $other 10.98.0.2
try node $$ 10.99.0.2
"""


@pytest.mark.programs
def test_a_node_lets_analysts_containers_reach_what_is_named_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "some.hcl").write_text(VARIABLES)
    rules = subprocess.run(
        [PROGRAM, "--var-file", tmp_path / "some.hcl", "--allow", "10.98.0.0/24:7002"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    (tmp_path / "rules.nft").write_text(rules)
    node = subprocess.run(
        ["unshare", "--net", "sh", "-c", NODE, "-", tmp_path],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert node.stdout.splitlines() == [
        "analyst 10.99.0.1: 7001",
        "analyst 10.98.0.2: 7001 7002 7003 9418",
        "other 10.98.0.2: 7001 7002 7003 9418",
        "node 10.99.0.2: 7001 7002 7003 9418",
    ]


def test_each_environments_file_names_what_a_worker_asks() -> None:
    assert targets([ROOT / "nomad/vars/production.hcl"]) == [
        "node-1.example.org:6379",
        "node-1.example.org:6380",
        "vault.example.org:8200",
        "airflow.example.org:443",
        "node-1.example.org:9418",
    ]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("10.0.0.5:5432", ["10.0.0.5/32 5432"]),
        ("10.0.0.0/24:53", ["10.0.0.0/24 53"]),
        ("[fd00::1]:5432", ["fd00::1/128 5432"]),
    ],
)
def test_an_address_and_a_network_stay_what_they_are(target: str, expected: list[str]) -> None:
    assert [f"{net} {port}" for net, port, _ in resolved(target)] == expected


@pytest.mark.parametrize(
    "target", ["", "host", "host:", ":5432", "host:0", "host:65536", "host:name", "no.invalid:5432"]
)
def test_what_has_no_address_is_refused_by_name(target: str) -> None:
    with pytest.raises(WrongUse) as caught:
        resolved(target)
    assert caught.value.message.startswith(f"{target}: expected")


def test_what_is_wrong_ends_with_two_and_prints_no_rules(tmp_path: Path) -> None:
    (tmp_path / "some.hcl").write_text(VARIABLES)
    done = subprocess.run(
        [sys.executable, PROGRAM, "--var-file", tmp_path / "some.hcl", "--allow", "warehouse"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "warehouse: expected HOST:PORT" in done.stderr

#!.venv/bin/python
"""Print the nftables rules that bound what the analysts' containers reach, for a node to load.

They need Vault, the api-server, Redis and the mirror, which the environment's variables name, and
databases - Airflow's, and those that tasks ask - which they do not. All else is refused.
"""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import jinja2
import typer

from frame.application import Application, exit_codes
from frame.failure import WrongUse
from scripts.variables import read_variables

URLS = ("vault_url", "airflow_url", "dag_mirror_url")
ADDRESSES = ("redis_address", "redis_results_address")
PORTS = {"http": 80, "https": 443, "git": 9418, "ssh": 22}

# Before Docker's own rules, which may refuse more. `input` is for the node's own addresses. The
# table is made so that it can be removed, and both happen in the one transaction of `nft -f`.
RULES = jinja2.Template(
    """\
# What containers at the bridge {{ bridge }} reach. Load it with: nft -f FILE
table inet harmattan_egress {}
delete table inet harmattan_egress
table inet harmattan_egress {
  chain bounds {
    iifname != "{{ bridge }}" return
    ct state established,related return
    {% for net, port, name in allowed -%}
    {{ "ip6" if net.version == 6 else "ip" }} daddr {{ net }} meta l4proto { tcp, udp } \
th dport {{ port }} return comment "{{ name }}"
    {% endfor -%}
    counter reject with icmpx admin-prohibited
  }

  chain input {
    type filter hook input priority filter - 1; policy accept;
    jump bounds
  }

  chain forward {
    type filter hook forward priority filter - 1; policy accept;
    jump bounds
  }
}
""",
    undefined=jinja2.StrictUndefined,
    keep_trailing_newline=True,
)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def resolved(target: str) -> list[tuple[Network, int, str]]:
    """Return each address or network of ``target`` (HOST:PORT or NETWORK/BITS:PORT) with its port.

    Raises :class:`WrongUse` where it has another form or no address.
    """
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise WrongUse(
            f"{target}: expected HOST:PORT or NETWORK/BITS:PORT",
            "Write it like warehouse.example.org:5432 or 10.0.0.0/24:6379.",
        )
    try:
        return [(ipaddress.ip_network(host), int(port), target)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise WrongUse(
            f"{target}: expected a name with an address, found: {error.strerror}",
            "Correct it, or run this where the cluster's names are known.",
        ) from None
    nets = {ipaddress.ip_network(str(address[0]).partition("%")[0]) for *_, address in found}
    return [(net, int(port), target) for net in sorted(nets, key=str)]


def targets(variable_files: list[Path]) -> list[str]:
    """Return HOST:PORT of all that the files' variables name and such a container asks."""
    values = {
        name: value for file in variable_files for name, value in read_variables(file).items()
    }
    named = [str(values[name]) for name in ADDRESSES if name in values]
    for name in URLS:
        if name in values:
            url = urlsplit(str(values[name]))
            named.append(f"{url.hostname}:{url.port or PORTS[url.scheme]}")
    return named


app = Application("scripts/egress.py")


@app.command(epilog=exit_codes({0: "printed"}))
def main(
    variables: Annotated[
        list[Path],
        typer.Option(
            "--var-file",
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="File of variables, such as nomad/vars/production.hcl.",
        ),
    ],
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="What else they may reach: the warehouse, Airflow's database, a name server"
            " (port 53), every node that may run Redis; a network as 10.0.0.0/24:6379. Give as many"
            " as there are.",
        ),
    ] = None,
    bridge: Annotated[
        str, typer.Option(help="The name of the Docker network's bridge on the node.")
    ] = "analysts0",
) -> None:
    """Print the nftables rules that bound what the analysts' containers reach.

    Names become addresses now: print and load the rules again when one moves. docs/runbook.md says
    how a node gets the network and the rules ("Bound what analysts' tasks reach").
    """
    found = {each for target in [*targets(variables), *(allow or [])] for each in resolved(target)}
    allowed = sorted(found, key=lambda each: (each[2], str(each[0])))
    print(RULES.render(bridge=bridge, allowed=allowed), end="")


if __name__ == "__main__":
    app.run()

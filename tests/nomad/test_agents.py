"""The reference configurations for production: what Nomad and Vault read, with TLS and ACLs on."""

from __future__ import annotations

import subprocess
from typing import Any

import hcl2
import pytest

from scripts.repository import ROOT
from scripts.tools import NOMAD, ensure

AGENTS = ROOT / "nomad/agents"


def read(name: str) -> dict[str, Any]:
    with (AGENTS / name).open() as file:
        found: dict[str, Any] = hcl2.load(file)
    return found


@pytest.mark.programs
@pytest.mark.parametrize("kind", ["server", "client"])
def test_nomad_takes_the_configuration_of_production(kind: str) -> None:
    files = [AGENTS / "production.hcl", AGENTS / f"production-{kind}.hcl"]
    words = [str(ensure(NOMAD)), "config", "validate", *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "Configuration is valid!" in done.stdout
    # The certificates are the institution's to put there; of nothing else does it warn.
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert [line for line in warnings if "/etc/nomad.d/tls/" not in line] == []


def test_production_has_acls_tls_both_ways_and_a_vault_block() -> None:
    common = read("production.hcl")
    assert common["acl"][0]["enabled"] is True
    tls = common["tls"][0]
    assert all(tls[name] is True for name in ("http", "rpc", "verify_server_hostname"))
    assert read("production-server.hcl")["server"][0]["bootstrap_expect"] >= 3


def test_vault_of_production_serves_tls_from_several_servers() -> None:
    vault = read("vault-production.hcl")
    ((kind, storage),) = vault["storage"][0].items()
    assert kind.strip('"') == "raft"
    assert len(storage["retry_join"]) >= 2
    for listener in vault["listener"]:
        settings = next(iter(listener.values()))
        assert settings["tls_cert_file"]
        assert "tls_disable" not in settings

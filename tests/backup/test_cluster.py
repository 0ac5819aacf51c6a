"""The state of a real Nomad and a real Vault, from their snapshot to the drill and back."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
from typing import TYPE_CHECKING

import hvac
import pytest
import requests

from backup.cluster import check_snapshot
from frame.failure import Failure
from scripts.tools import NOMAD, VAULT, ensure
from tests.backup.conftest import House, OpenPgpKey, eventually
from tests.conftest import free_port
from tests.http_server import Answer, http_server
from tests.nomad.agent import running_agent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def archive(**members: bytes) -> bytes:
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items()
    )
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for name, data in {**members, "SHA256SUMS": sums.encode()}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return made.getvalue()


def test_a_whole_snapshot_is_sound_and_any_cut_or_flip_is_not() -> None:
    whole = archive(meta=b"{}", state=random.Random(7).randbytes(20_000))
    check_snapshot("nomad", io.BytesIO(whole))
    chance = random.Random(8)
    for length in [0, 1, 100, *chance.sample(range(200, len(whole) - 200), 20)]:
        with pytest.raises(Failure, match="snapshot of nomad is"):
            check_snapshot("nomad", io.BytesIO(whole[:length]))
    for place in chance.sample(range(100, len(whole) - 2000), 20):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        with pytest.raises(Failure, match="snapshot of nomad is"):
            check_snapshot("nomad", io.BytesIO(damaged))
    with pytest.raises(Failure, match="SHA256SUMS is missing"):
        empty = io.BytesIO()
        tarfile.open(fileobj=empty, mode="w:gz").close()
        check_snapshot("nomad", io.BytesIO(empty.getvalue()))


def start(argv: list[str | Path], home: Path) -> subprocess.Popen[bytes]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with (home / "log").open("wb") as log:
        return subprocess.Popen(argv, env=environment, stdout=log, stderr=log, cwd=home)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


@pytest.fixture(scope="module")
def nomad_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Nomad server alone, without clients."""
    with running_agent(tmp_path_factory.mktemp("nomad")) as address:
        eventually(lambda: answers(f"{address}/v1/operator/snapshot"), 60)
        yield address


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A Vault with its own storage, and a token that may save its snapshot and nothing else."""
    home = tmp_path_factory.mktemp("vault")
    (home / "data").mkdir()
    port, cluster = free_port(), free_port()
    (home / "server.hcl").write_text(f"""
storage "raft" {{
  path    = "{home}/data"
  node_id = "test"
}}
listener "tcp" {{
  address         = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_disable     = true
}}
api_addr      = "http://127.0.0.1:{port}"
cluster_addr  = "http://127.0.0.1:{cluster}"
disable_mlock = true
""")
    server = start([ensure(VAULT), "server", f"-config={home}/server.hcl"], home)
    address = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(f"{address}/v1/sys/seal-status"), 60)
        client = hvac.Client(url=address)
        made = client.sys.initialize(secret_shares=1, secret_threshold=1)
        client.sys.submit_unseal_keys(made["keys"])
        eventually(lambda: answers(f"{address}/v1/sys/health"), 60)
        client.token = made["root_token"]
        rules = 'path "sys/storage/raft/snapshot" {\n  capabilities = ["read"]\n}\n'
        client.sys.create_or_update_policy("backup-vault", rules)
        token = client.auth.token.create(policies=["backup-vault"], no_default_policy=True)
        yield address, token["auth"]["client_token"]
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture
def signed(
    empty_house: House,
    drill_key: OpenPgpKey,
    recovery_key: OpenPgpKey,
    manifest_key: OpenPgpKey,
    signing_key: OpenPgpKey,
) -> House:
    """An environment that backs up Nomad and Vault, and no server that it could ask."""
    with empty_house.settings.registry.open("a") as registry:
        for name in ("nomad", "vault"):
            registry.write(f'[[snapshot]]\nname = "{name}"\nschedule = "0 5 * * *"\n')
    empty_house.secret("recipients.asc", drill_key.public + recovery_key.public)
    empty_house.secret("manifest_recipient.asc", manifest_key.public)
    empty_house.secret("signing_key.asc", signing_key.private)
    keys = dict.fromkeys(("nomad", "vault"), signing_key.public)
    empty_house.secret("signers.json", json.dumps(keys))
    return empty_house


def prove(house: House, name: str, key: OpenPgpKey, tmp_path: Path, **settings: str) -> None:
    """Back ``name`` up, have it verified and drilled, and bring it back as a file."""
    ended = house.run("run", name, "--json", **settings)
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads(ended.stdout)
    assert (manifest["kind"], manifest["tables"]) == (name, [])
    house.read()
    house.secret("drill_key.asc", key.private)
    assert house.run("verify", manifest["id"]).returncode == 0
    ended = house.run("drill", name, "--json", unprivileged=True)
    (result,) = json.loads(ended.stdout)["databases"]
    assert (ended.returncode, result["verdict"], result["findings"]) == (0, "equal", [])
    target = tmp_path / "snapshot"
    assert house.run("restore", name, "--to", str(target)).returncode == 0
    assert target.stat().st_mode & 0o777 == 0o600
    with target.open("rb") as stream:
        check_snapshot(name, stream)
    ended = house.run("restore", name, "--to", str(target))
    assert (ended.returncode, "is there already" in ended.stderr) == (2, True)
    ended = house.run("restore", name, "--into-env", "TARGET", TARGET="postgresql://h/d")
    assert (ended.returncode, "is no database but a snapshot of" in ended.stderr) == (2, True)


def test_the_state_of_nomad_comes_back(
    signed: House, nomad_address: str, drill_key: OpenPgpKey, tmp_path: Path
) -> None:
    signed.secret("nomad_token", "none is asked for")
    prove(signed, "nomad", drill_key, tmp_path, BACKUP_NOMAD_ADDRESS=nomad_address)
    state = subprocess.run(
        [ensure(NOMAD), "operator", "snapshot", "inspect", tmp_path / "snapshot"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert state.returncode == 0, state.stderr
    assert "Index" in state.stdout


def test_the_state_of_vault_comes_back_by_a_token_that_may_do_nothing_else(
    signed: House, vault: tuple[str, str], drill_key: OpenPgpKey, tmp_path: Path
) -> None:
    address, token = vault
    signed.secret("vault_token", token)
    prove(signed, "vault", drill_key, tmp_path, BACKUP_VAULT_ADDRESS=address)


@pytest.mark.parametrize(
    ("status", "told"),
    [(403, "gives no snapshot: 403"), (200, "snapshot of vault is damaged")],
)
def test_what_is_no_snapshot_becomes_no_backup(signed: House, status: int, told: str) -> None:
    signed.secret("vault_token", "s.hush-of-vault")
    with http_server(Answer(status, b"noted")) as server:
        ended = signed.run("run", "vault", BACKUP_VAULT_ADDRESS=server.url)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert "hush" not in ended.stderr
    assert signed.names() == []


def test_a_vault_that_is_away_and_an_address_that_is_missing_are_told(signed: House) -> None:
    signed.secret("vault_token", "s.x")
    ended = signed.run("run", "vault", BACKUP_VAULT_ADDRESS=f"http://127.0.0.1:{free_port()}")
    assert (ended.returncode, "does not answer: ConnectionError" in ended.stderr) == (1, True)
    ended = signed.run("run", "vault")
    assert (ended.returncode, "BACKUP_VAULT_ADDRESS is not set" in ended.stderr) == (2, True)

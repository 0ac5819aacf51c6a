"""What the backup tests share: keys, a bucket, a source with rows, and settings that join them."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from backup.bucket.layout import manifest_name
from backup.dump import run_backup
from backup.openpgp.crypt import manifest_recipients
from backup.openpgp.signature import signer
from backup.registry import Database
from backup.settings import Settings
from backup.source.contents import list_tables
from standins.b2_server.endpoint import b2_endpoint
from tests import forked
from tests.conftest import PG_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from b2sdk.v3 import Bucket

    from backup.manifest import Manifest
    from standins.b2_server.endpoint import B2Endpoint
    from tests.conftest import PostgresServer
    from tests.forked import Forked

__all__ = ["b2_endpoint"]

ROOT = Path(__file__).resolve().parents[2]
MEMORY = Path("/dev/shm")  # noqa: S108
PASSWORD = "s3cret-of-the-dumper"  # noqa: S105
SAMPLE = """
CREATE TYPE mood AS ENUM ('well', 'unwell');
CREATE SCHEMA "odd ""schema";
CREATE TABLE "odd ""schema"."Täble" (id int PRIMARY KEY, text text);
INSERT INTO "odd ""schema"."Täble" SELECT n, 'ɛ ŋ 𝄞 ' || n FROM generate_series(1, 100) n;
CREATE TABLE people (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), mood mood, tags text[], about jsonb,
  pay numeric(12, 3), seen timestamptz);
INSERT INTO people (mood, tags, about, pay, seen)
  SELECT 'well', ARRAY['a', NULL, 'c"d'], jsonb_build_object('n', n), n / 7.0, now()
  FROM generate_series(1, 500) n;
CREATE TABLE empty (id int);
CREATE TABLE marks (term int, mark int) PARTITION BY LIST (term);
CREATE TABLE marks_1 PARTITION OF marks FOR VALUES IN (1);
CREATE TABLE marks_2 PARTITION OF marks FOR VALUES IN (2);
INSERT INTO marks SELECT 1 + n % 2, n FROM generate_series(1, 99) n;
CREATE VIEW well AS SELECT id FROM people WHERE mood = 'well';
"""

SERVER = """
[[server]]
name = "postgres"
vault_path = "backup/servers/postgres"
schedule = "0 0 * * *"
without = ["postgres"]
"""


@dataclass(frozen=True)
class OpenPgpKey:
    """A key pair without a passphrase, in armour."""

    fingerprint: str
    public: str
    private: str


def make_key(
    home: Path, name: str, expiry: str = "never", *, encrypts: bool = True, passphrase: str = ""
) -> OpenPgpKey:
    """Make an ed25519 key, with a cv25519 subkey if it ``encrypts``, in the keyring ``home``."""

    def gpg(*arguments: str) -> str:
        return subprocess.run(
            ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", passphrase,
             "--pinentry-mode", "loopback", *arguments],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip

    gpg("--quick-generate-key", name, "ed25519", "sign", expiry)
    listing = gpg("--list-keys", "--with-colons", name).splitlines()
    fingerprint = next(line.split(":")[9] for line in listing if line.startswith("fpr"))
    if encrypts:
        gpg("--quick-add-key", fingerprint, "cv25519", "encr", expiry)
    return OpenPgpKey(
        fingerprint,
        gpg("--armor", "--export", fingerprint),
        gpg("--armor", "--export-secret-keys", fingerprint),
    )


@pytest.fixture(scope="session")
def gnupg_home() -> Iterator[Path]:
    """A keyring to make keys in; its path is short enough for the agent's socket."""
    home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))
    try:
        yield home
    finally:
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=False)
        shutil.rmtree(home, ignore_errors=True)  # the agent takes its sockets away itself


@pytest.fixture(scope="session")
def drill_key(gnupg_home: Path) -> OpenPgpKey:
    return make_key(gnupg_home, "drill@example.org")


@pytest.fixture(scope="session")
def recovery_key(gnupg_home: Path) -> OpenPgpKey:
    return make_key(gnupg_home, "recovery@example.org")


@pytest.fixture(scope="session")
def manifest_key(gnupg_home: Path) -> OpenPgpKey:
    return make_key(gnupg_home, "manifests@example.org")


@pytest.fixture(scope="session")
def signing_key(gnupg_home: Path) -> OpenPgpKey:
    return make_key(gnupg_home, "signing-hr@example.org", encrypts=False)


def start_scratch_server(
    home: Path, *words: str | Path, log: IO[str] | int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Start a supervisor as the user ``nobody`` that is as alone as in its container.

    Its sockets are in ``home / "sockets"``, its data in ``home / "data"``, and in place of a
    container's /tmp it empties ``home / "tmp"``.
    """
    (home / "tmp").mkdir(exist_ok=True)
    for path in (home, home / "tmp"):
        shutil.chown(path, "nobody")
    return subprocess.Popen(
        # Either ends with its parent; the kernel forgets unshare's own wish at the change of user.
        ["setpriv", "--pdeathsig=KILL", "unshare", "--fork", "--pid", "--mount-proc", "--net",
         "--ipc", "setpriv", "--pdeathsig=KILL", "--reuid=nobody", "--regid=nogroup",
         "--clear-groups",
         sys.executable, "-P", "-m", "backup", "scratch-server", home / "sockets",
         "--wipe", home / "tmp", *words],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
             "BACKUP_SCRATCH": str(home / "data"), "BACKUP_PG_ROOT": str(PG_ROOT)},
        stdout=log, stderr=log, text=True, cwd="/",
    )  # fmt: skip


@pytest.fixture(scope="session")
def scratch_server_directory() -> Iterator[Path]:
    """A scratch server for the whole test run, leased to one drill at a time.

    In memory where there is enough: it waits for the disk at each commit, as in production.
    """
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2 << 30
    home = Path(tempfile.mkdtemp(prefix="bks-", dir=MEMORY if roomy else None))
    home.chmod(0o755)
    with (home / "log").open("w") as written:
        supervisor = start_scratch_server(home, log=written)
    try:
        yield home / "sockets"
    finally:
        supervisor.kill()
        supervisor.wait()
        shutil.rmtree(home)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory with a short path that the server's user can enter too."""
    made = Path(tempfile.mkdtemp(prefix="bk-", dir="/tmp"))
    made.chmod(0o777)
    try:
        yield made
    finally:
        shutil.rmtree(made)


@dataclass(frozen=True)
class House:
    """One environment with one database, ``hr``, its bucket and its secrets."""

    settings: Settings
    source: str
    bucket: Bucket
    endpoint: B2Endpoint
    server: PostgresServer

    @property
    def database(self) -> Database:
        return make_database("hr", self.source.rpartition("/")[2])

    def secret(self, name: str, text: str) -> None:
        path = self.settings.secrets_dir / name
        path.write_text(text)
        path.chmod(0o644)

    def use_key(self, *capabilities: str, prefix: str | None = None) -> str:
        """Give the program a key with these rights, and return its secret part."""
        key = self.endpoint.create_key("test", ("listBuckets", *capabilities), self.bucket, prefix)
        self.secret("b2.json", json.dumps({"key_id": key.key_id, "key": key.key}))
        return key.key

    def write(self) -> None:
        self.use_key("listFiles", "writeFiles")

    def read(self) -> None:
        self.use_key("listFiles", "readFiles")

    def names(self) -> list[str]:
        return [version.file_name for version, _ in self.bucket.ls(recursive=True)]

    def unfinished(self) -> list[str]:
        return [found.file_name for found in self.bucket.list_unfinished_large_files()]

    def environment(self) -> dict[str, str]:
        fields = self.settings.model_dump(mode="json")
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{
                f"BACKUP_{name.upper()}": str(value)
                for name, value in fields.items()
                if value is not None
            },
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "backup", *arguments],
            env=self.environment() | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def fork(self, *arguments: str, **environment: str) -> Forked:
        """Start it without its imports, where they are not what is shown."""
        return forked.fork("backup", *arguments, env=self.environment() | environment)

    def run(self, *arguments: str, unprivileged: bool = False, **environment: str) -> Any:
        """Run the program to its end, as somebody other than root if ``unprivileged``."""
        if not unprivileged and "LD_PRELOAD" not in environment:
            return forked.run("backup", *arguments, env=self.environment() | environment)
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        prefix = user if unprivileged and os.geteuid() == 0 else []
        return subprocess.run(
            [*prefix, sys.executable, "-m", "backup", *arguments], check=False,
            env=self.environment() | environment, capture_output=True, text=True, cwd="/",
        )  # fmt: skip


def make_database(name: str, dbname: str = "") -> Database:
    return Database(
        name=name, dbname=dbname, server="postgres", vault_path=f"backup/databases/{name}",
        schedule="0 1 * * *", retention="daily", expected_size=1000,
    )  # fmt: skip


def database_entry(name: str, **fields: object) -> str:
    """Return a database as the registry's file tells of it."""
    values = make_database(name).model_dump(mode="json", exclude_none=True) | fields
    lines = "\n".join(f"{field} = {json.dumps(value)}" for field, value in values.items())
    return f"[[database]]\n{lines}\n"


@pytest.fixture
def empty_house(
    scratch: Path,
    b2_endpoint: B2Endpoint,
    postgres: PostgresServer,
    scratch_server_directory: Path,
) -> Iterator[House]:
    """An environment with its bucket and a writing key, for tests that need no database."""
    secrets_dir = scratch / "secrets"
    secrets_dir.mkdir()
    settings = Settings(
        secrets_dir=secrets_dir, b2_realm=b2_endpoint.url, bucket=f"test-{secrets.token_hex(8)}",
        prefix="local", scratch=scratch, pg_root=PG_ROOT, part_minimum=5_000_000,
        registry=scratch / "databases.toml", scratch_server=scratch_server_directory,
    )  # fmt: skip
    settings.registry.write_text(SERVER + database_entry("hr"))
    made = House(settings, "", b2_endpoint.create_bucket(settings.bucket), b2_endpoint, postgres)
    made.write()
    yield made
    b2_endpoint.reset_clock()


@pytest.fixture
def house(
    empty_house: House,
    database: str,
    drill_key: OpenPgpKey,
    recovery_key: OpenPgpKey,
    manifest_key: OpenPgpKey,
    signing_key: OpenPgpKey,
) -> House:
    """An environment as jobs have it: a reading role, a writing key, no key that opens a dump."""
    role = f"dumper_{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SAMPLE.encode())
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE pg_read_all_data").format(
                sql.Identifier(role), sql.Literal(PASSWORD)
            )
        )
    server, name = database.rpartition("@")[2].split("/")
    empty_house.secret("database_uri", f"postgresql://{role}:{PASSWORD}@{server}/{name}")
    empty_house.secret("recipients.asc", drill_key.public + recovery_key.public)
    empty_house.secret("manifest_recipient.asc", manifest_key.public)
    empty_house.secret("manifest_key.asc", manifest_key.private)
    empty_house.secret("signing_key.asc", signing_key.private)
    empty_house.settings.registry.write_text(SERVER + database_entry("hr", dbname=name))
    signers = dict.fromkeys(("hr", "postgres_globals", "restore-drill"), signing_key.public)
    empty_house.secret("signers.json", json.dumps(signers))
    return dataclasses.replace(empty_house, source=database)


@pytest.fixture
def backed_up(house: House, drill_key: OpenPgpKey) -> House:
    """The environment after one good backup, with the rights and the key of the drill."""
    run_backup(house.settings, house.database)
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    return house


def publish(house: House, manifest: Manifest, folder: str = "local/daily/hr") -> None:
    """Put a manifest in place of the one there is, signed and encrypted as the job would."""
    recipients = [
        house.settings.secret_path(name) for name in ("recipients.asc", "manifest_recipient.asc")
    ]
    name = manifest_name(folder, manifest.id)
    for version, _ in house.bucket.ls(folder, latest_only=False, recursive=True):
        if version.file_name.startswith(name):
            version.delete()
    with (
        manifest_recipients(*recipients) as ring,
        signer(house.settings.secret_path("signing_key.asc")) as signing,
    ):
        data = ring.encrypt(manifest.to_json())
        house.bucket.upload_bytes(signing.sign(data), f"{name}.asc")
    house.bucket.upload_bytes(data, name)


def add_megabytes(uri: str, count: int) -> None:
    """Add a table of ``count`` incompressible megabytes."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("CREATE TABLE blobs (id int, blob bytea)")
        connection.execute("ALTER TABLE blobs ALTER blob SET STORAGE EXTERNAL")
        for number in range(count):
            blob = random.Random(number).randbytes(1 << 20)
            connection.execute("INSERT INTO blobs VALUES (%s, %b)", [number, blob])


def contents(uri: str) -> dict[str, list[str]]:
    """Return every row of every user table as text, sorted."""
    with psycopg.connect(uri, autocommit=True) as connection:
        return {
            f"{schema}.{name}": sorted(
                row[0]
                for row in connection.execute(
                    sql.SQL("SELECT t::text FROM ONLY {} t").format(sql.Identifier(schema, name))
                )
            )
            for schema, name in list_tables(connection)
        }


def descendants(pid: int) -> list[int]:
    """Return the processes below ``pid``."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found, level = [], {pid}
    while level:
        level = {child for child, parent in parents.items() if parent in level}
        found += level
    return found


def program(pid: int) -> str:
    """Return the name of a process, empty if it is gone, or dead and not yet reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] in "ZX" else name


def eventually(found: Callable[[], Any], seconds: float = 20) -> Any:
    """Return the first true value of ``found``."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)
    return value

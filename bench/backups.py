"""What backups are measured with: a database of mixed data, keys, a registry, B2 on loopback."""

from __future__ import annotations

import json
import os
import secrets
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, LiteralString

import gnupg
from psycopg import sql

from backup.settings import Settings
from bench.clusters import DATABASE
from frame.progress import step
from standins.b2_server.endpoint import running_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.clusters import Cluster
    from bench.race import Setting
    from standins.b2_server.endpoint import B2Endpoint

PG_ROOT = "/usr/lib/postgresql"
PG_BIN = f"{PG_ROOT}/15/bin"
NAME = "bench"
RESULTS = "counts", "digests"
# Beside lineitem, at scale 1: documents of 500 MB, files of 400 MB that do not compress, a text
# table of 300 MB with two indexes, and 200 small tables.
_MIXED: LiteralString = """
CREATE TABLE documents AS
  SELECT n AS id, gen_random_uuid() AS uuid, now() - n * interval '1 minute' AS at,
         jsonb_build_object('n', n, 'name', md5(n::text), 'tags', ARRAY[n % 7, n % 11, n % 13],
           'nested', jsonb_build_object('pay', n / 7.0, 'words', repeat(md5((n*3)::text), 6)))
           AS doc,
         ARRAY['a' || n, NULL, 'c' || n % 100] AS labels
  FROM generate_series(1, ({scale} * 1000000)::int) n;
ALTER TABLE documents ADD PRIMARY KEY (id);
CREATE TABLE files (id int PRIMARY KEY, content bytea);
ALTER TABLE files ALTER content SET STORAGE EXTERNAL;
CREATE TABLE notes AS
  SELECT n AS id, md5(n::text) || ' ' || repeat('ɛ ŋ note ' || n % 997, 8) AS text, n % 50 AS kind
  FROM generate_series(1, ({scale} * 1500000)::int) n;
ALTER TABLE notes ADD PRIMARY KEY (id);
CREATE INDEX ON notes (kind);
DO $$ BEGIN FOR n IN 1..200 LOOP
  EXECUTE format('CREATE TABLE small_%s AS SELECT g AS id, md5(g::text) AS word'
                 ' FROM generate_series(1, 1000) g', n);
END LOOP; END $$;
"""
_TABLES: LiteralString = """
SELECT count(*), sum(pg_table_size(oid))::bigint FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""
_INDEXES: LiteralString = """
SELECT string_agg(format('%s %s indexes of %s GB (%s of them keys)', of_kind, amname,
                         round(bytes / 1e9::numeric, 2), keys), ', ' ORDER BY amname)
FROM (SELECT am.amname, count(*) AS of_kind, sum(pg_relation_size(c.oid)) AS bytes,
             count(*) FILTER (WHERE i.indisprimary) AS keys
      FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am am ON am.oid = c.relam
      WHERE c.relnamespace = 'public'::regnamespace GROUP BY am.amname) AS kinds
"""


@dataclass(frozen=True)
class House:
    """All that ``backup`` needs: ``environment`` by the proof of the dump, counts or digests."""

    home: Path
    endpoint: B2Endpoint
    bucket: str
    fingerprints: tuple[str, str]
    environments: dict[str, dict[str, str]] = field(repr=False)

    def gpg(self) -> list[str]:
        """Return the command that encrypts as ``backup`` does, for a pipeline by hand."""
        to = [f"--recipient={each}" for each in self.fingerprints]
        return ["gpg", "--no-options", "--batch", "--quiet", "--homedir", str(self.home / "gpg"),
                "--no-autostart", "--trust-model=always", "--compress-algo=none", *to,
                "--output=-", "--encrypt"]  # fmt: skip

    def cool(self, *files: Path) -> None:
        """Leave what the endpoint keeps, and ``files``, on disk alone, as an older backup is."""
        for path in (*(self.home / "data").rglob("*"), *files):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def forget(self) -> None:
        """Delete all that is in the bucket: the next dump finds as much room as this one."""
        bucket = self.endpoint.api().get_bucket_by_name(self.bucket)
        for version, _ in bucket.ls(latest_only=False, recursive=True):
            version.delete()


def command(*words: str) -> list[str]:
    """Return a command line of ``backup``."""
    return [sys.executable, "-m", "backup", *words]


def fill(setting: Setting) -> None:
    """Have the mixed database in the source; raises Failure."""
    source = setting.clusters.source
    setting.load("lineitem")
    if source.row("SELECT to_regclass('notes')")[0] is not None:
        return
    with step(f"make the mixed tables at scale {setting.scale:g}"):
        source.execute(sql.SQL(_MIXED).format(scale=sql.Literal(setting.scale)))
        with source.connect() as connection:
            for number in range(int(400 * setting.scale) or 1):
                connection.execute(
                    "INSERT INTO files VALUES (%s, %b)", [number, os.urandom(1_000_000)]
                )
        source.execute("VACUUM (FREEZE, ANALYZE)")


def size(cluster: Cluster) -> int:
    """Return the bytes of the bench database on its server."""
    return int(cluster.row("SELECT pg_database_size(current_database())")[0])


def contents(cluster: Cluster) -> str:
    """Return what the bench database is made of, which decides how fast it is loaded."""
    tables, in_tables = cluster.row(_TABLES)
    (indexes,) = cluster.row(_INDEXES)
    return (
        f"{size(cluster) / 1e9:.1f} GB on the server: {tables} tables of {in_tables / 1e9:.1f} GB"
        " (TPC-H lineitem, JSON documents, files that do not compress, texts, 200 of 1,000 rows)"
        f" and {indexes}"
    )


@contextmanager
def house(setting: Setting) -> Iterator[House]:
    """Make keys, registry and an endpoint for the time of a measurement."""
    with (
        TemporaryDirectory(prefix="backups-", dir=setting.home) as made,
        running_endpoint(home := Path(made)) as endpoint,
    ):
        keys = _keys(home)
        bucket = f"bench-{secrets.token_hex(6)}"
        rights = ["listBuckets", "listFiles", "readFiles", "writeFiles"]
        key = endpoint.create_key("bench", rights, endpoint.create_bucket(bucket))
        _secret(home, "b2.json", json.dumps({"key_id": key.key_id, "key": key.key}))
        _secret(home, "database_uri", setting.clusters.source.uri())
        environments = {}
        for proof in RESULTS:
            registry = home / f"{proof}.toml"
            registry.write_text(_registry(proof))
            environments[proof] = {
                "BACKUP_SECRETS_DIR": str(home / "secrets"),
                "BACKUP_B2_REALM": endpoint.url,
                "BACKUP_BUCKET": bucket,
                "BACKUP_PREFIX": "bench",
                "BACKUP_SCRATCH": str(home),
                "BACKUP_REGISTRY": str(registry),
                "BACKUP_PG_ROOT": PG_ROOT,
            }
        Settings.from_environment(environments["counts"])
        yield House(home, endpoint, bucket, keys, environments)


def _secret(home: Path, name: str, text: str) -> None:
    folder = home / "secrets"
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / name).write_text(text)


def _keys(home: Path) -> tuple[str, str]:
    """Make the two keys that dumps are encrypted to, the manifests' own, and the one that signs."""
    (home / "gpg").mkdir(mode=0o700)
    gpg = gnupg.GPG(gnupghome=str(home / "gpg"))
    made = []
    for name, subkey in (
        ("recovery", True),
        ("drill", True),
        ("manifests", True),
        ("signing", False),
    ):
        more = {"subkey_type": "ECDH", "subkey_curve": "cv25519"} if subkey else {}
        made.append(
            gpg.gen_key(
                gpg.gen_key_input(
                    name_real=name, name_email=f"{name}@localhost", key_type="EDDSA",
                    key_curve="ed25519", no_protection=True, expire_date="1y", **more,
                )
            ).fingerprint
        )  # fmt: skip
    recovery, drill, manifests, signing = made

    def private(fingerprint: str) -> str:
        return str(gpg.export_keys(fingerprint, secret=True, expect_passphrase=False))

    _secret(home, "recipients.asc", gpg.export_keys(recovery) + gpg.export_keys(drill))
    _secret(home, "manifest_recipient.asc", gpg.export_keys(manifests))
    _secret(home, "drill_key.asc", private(drill))
    _secret(home, "signing_key.asc", private(signing))
    _secret(home, "signers.json", json.dumps({NAME: gpg.export_keys(signing)}))
    return recovery, drill


def _registry(proof: str) -> str:
    return f"""
[[server]]
name = "source"
vault_path = "backup/servers/source"
schedule = "0 0 * * *"

[[database]]
name = "{NAME}"
server = "source"
dbname = "{DATABASE}"
vault_path = "backup/databases/{NAME}"
schedule = "0 1 * * *"
retention = "daily"
expected_size = "2GB"
proof = "{proof}"
"""

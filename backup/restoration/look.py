"""What a restore would meet, asked before a byte of the dump is downloaded.

What follows from it is decided in :mod:`backup.restoration.findings`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from backup.openpgp.opening import why_ring_is_closed
from backup.postgres.programs import VERSION_UNIT, majors
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from pathlib import Path

    from backup.manifest import Manifest
    from backup.openpgp.crypt import Keyring
    from backup.postgres.connection import Connection, PostgresUri


SERVER = """
SELECT current_setting('server_version_num')::int, current_user, rolsuper, rolcreatedb,
       rolcreaterole,
       least(current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true)::int, 0)
         - (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid())::int,
         CASE WHEN rolconnlimit >= 0 AND NOT rolsuper THEN rolconnlimit
         - (SELECT count(*) FROM pg_stat_activity
            WHERE usesysid = r.oid AND pid <> pg_backend_pid())::int END),
       EXISTS (SELECT FROM pg_collation WHERE collprovider = 'i'),
       pg_char_to_encoding(%s) >= 0
FROM pg_roles r WHERE rolname = current_user
"""
DATABASE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, pg_has_role(datdba, 'USAGE'),
       (SELECT count(*) FROM pg_stat_activity a WHERE a.datname = d.datname
                                                AND pid <> pg_backend_pid())::int,
       datconnlimit, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c')
FROM pg_database d WHERE datname = %s
"""
# Anything that a user made, extensions' own objects aside. A composite type is a relation too.
CONTENTS = """
SELECT told FROM (
  SELECT 'schema ' || nspname AS told, tableoid AS class, oid FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
  UNION ALL
  SELECT 'relation ' || oid::regclass, tableoid, oid FROM pg_class
  WHERE relnamespace = to_regnamespace('public')
  UNION ALL
  SELECT 'type ' || oid::regtype, tableoid, oid FROM pg_type
  WHERE typnamespace = to_regnamespace('public') AND typtype IN ('d', 'e', 'r')
  UNION ALL
  SELECT 'function ' || oid::regproc, tableoid, oid FROM pg_proc
  WHERE pronamespace = to_regnamespace('public')
  UNION ALL
  SELECT 'large object ' || oid, tableoid, oid FROM pg_largeobject_metadata
  UNION ALL
  SELECT 'publication ' || pubname, tableoid, oid FROM pg_publication
  UNION ALL
  SELECT 'event trigger ' || evtname, tableoid, oid FROM pg_event_trigger) AS made
WHERE NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = made.class AND d.objid = made.oid AND d.deptype = 'e')
LIMIT 3
"""
LOCALES = """
SELECT collcollate FROM pg_collation WHERE collprovider = 'c' AND collcollate <> ''
UNION SELECT datcollate FROM pg_database UNION SELECT datctype FROM pg_database
"""
EXTENSIONS = """
SELECT name, array_agg(version), bool_and(superuser AND NOT trusted)
FROM pg_available_extension_versions GROUP BY name
"""
DATABASES = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
# Whom this login can give something to.
RECEIVERS = "SELECT rolname FROM pg_roles WHERE pg_has_role(oid, '{}')"
SET_SINCE = 160_000  # server_version_num; before, who is a member can be the group
RELATIONS = """
SELECT nspname || '.' || relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
"""


@dataclass(frozen=True)
class Existing:
    """The target database, where it is there already."""

    encoding: str
    collate: str
    ctype: str
    mine: bool
    others: int  # sessions in it
    provider: str = "c"  # of the locale, as pg_database.datlocprovider
    contents: tuple[str, ...] = ()  # the first few things in it
    extensions: frozenset[str] = frozenset()
    relations: frozenset[str] = frozenset()  # as schema.name


@dataclass(frozen=True)
class Server:
    """The target's server, and what this login may do on it."""

    version: int  # server_version_num
    user: str
    superuser: bool
    createdb: bool
    createrole: bool
    free_sessions: int
    icu: bool
    knows_encoding: bool
    roles: frozenset[str] = frozenset()
    tablespaces: frozenset[str] = frozenset()
    locales: frozenset[str] = frozenset()
    extensions: dict[str, frozenset[str]] = field(default_factory=dict)  # versions to be had
    for_superusers: frozenset[str] = frozenset()  # extensions that only those can make
    receivers: frozenset[str] = frozenset()  # roles that this login can give something to
    databases: frozenset[str] = frozenset()
    database: Existing | None = None

    @property
    def major(self) -> int:
        """The major version."""
        return self.version // VERSION_UNIT


@dataclass(frozen=True)
class Facts:
    """All that was asked. ``server`` is why there is no answer, or None where none is needed."""

    closed: tuple[str, str] | None  # why the key does not open the dump, and the way out
    signed: bool
    free: int  # bytes on the scratch disk
    clients: tuple[int, ...]  # major versions
    server: Server | Failure | None


def gather(
    manifest: Manifest,
    ring: Keyring,
    target: PostgresUri | None,
    place: tuple[Path, Path],
    *,
    signed: bool,
) -> Facts:
    """Ask key, disk, programs and server. ``place`` is the scratch directory, and BACKUP_PG_ROOT.

    Without ``target`` the dump goes to a file in that directory.
    """
    scratch, root = place
    server: Server | Failure | None = None
    if target is not None:
        try:
            server = _ask(target, manifest)
        except Failure as failure:
            server = failure
    return Facts(
        why_ring_is_closed(ring, manifest.recipients),
        signed,
        _free(scratch),
        majors(root),
        server,
    )


def _free(directory: Path) -> int:
    try:
        return shutil.disk_usage(directory).free
    except OSError as error:
        raise WrongUse(
            f"no directory can be made in {directory}: {error.strerror}",
            hint="Create it, or name another; it needs room for the plain dump.",
        ) from error


def _ask(target: PostgresUri, manifest: Manifest) -> Server:
    name = target.database()
    with target.connect_to_server("look") as connection:
        ((version, user, superuser, createdb, createrole, free, icu, encoding),) = (
            connection.execute(SERVER, [manifest.server.encoding])
        )
        there = connection.execute(DATABASE, [name]).fetchone()
        offered = connection.execute(EXTENSIONS).fetchall()
        receive = "SET" if version >= SET_SINCE else "MEMBER"
        server = Server(
            version,
            user,
            superuser,
            createdb,
            createrole,
            free,
            icu,
            encoding,
            roles=_names(connection, "SELECT rolname FROM pg_roles"),
            tablespaces=_names(connection, "SELECT spcname FROM pg_tablespace"),
            locales=_names(connection, LOCALES),
            extensions={extension: frozenset(versions) for extension, versions, _ in offered},
            for_superusers=frozenset(extension for extension, _, only in offered if only),
            receivers=_names(connection, RECEIVERS.format(receive)),
            databases=_names(connection, DATABASES),
        )
    if there is None:
        return server
    with target.connect("look") as connection:
        contents = tuple(what for (what,) in connection.execute(CONTENTS))
        encoding, collate, ctype, mine, others, limit, provider = there
        database = Existing(
            encoding, collate, ctype, mine, others, provider, contents,
            extensions=_names(connection, "SELECT extname FROM pg_extension"),
            relations=_names(connection, RELATIONS),
        )  # fmt: skip
    if limit >= 0 and not superuser:
        free = min(free, limit - others)
    return replace(server, database=database, free_sessions=free)


def _names(connection: Connection, query: str) -> frozenset[str]:
    return frozenset(name for (name,) in connection.execute(query.encode()))

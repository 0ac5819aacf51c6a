"""One view of the source for everything that is taken from it, and the lock around it."""

from __future__ import annotations

import hashlib
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import tenacity
from psycopg import errors

from backup.manifest import Sequence, Source, TableContents
from backup.postgres.names import printable
from backup.source.causes import explained
from backup.source.contents import (
    extensions,
    large_objects,
    list_tables,
    sequence_values,
    unvalidated,
)
from backup.source.inventory import Inventory
from backup.source.locks import SLICE, begin_locked, check_names
from backup.source.watch import Watch
from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from backup.attempt import Attempt
    from backup.postgres.connection import Connection, PostgresUri
    from backup.postgres.names import Name

log = get_logger(__name__)

# The locale is called otherwise before version 17, and is not there before 15.
SOURCE = """
SELECT (pg_control_system()).system_identifier, current_setting('server_version_num')::int,
       pg_encoding_to_char(encoding), datcollate, datctype,
       coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), pg_database_size(oid),
       (SELECT rolname FROM pg_roles WHERE oid = 10), to_jsonb(d) ->> 'daticurules',
       (SELECT spcname FROM pg_tablespace s WHERE s.oid = dattablespace),
       ARRAY(SELECT spcname FROM pg_tablespace s WHERE s.oid IN (SELECT reltablespace FROM pg_class)
             AND spcname <> 'pg_global' ORDER BY 1),
       current_setting('max_locks_per_transaction')::int
FROM pg_database d WHERE datname = current_database()
"""
# Owners, grantees and policies' roles. The first superuser is never in pg_shdepend, so the owners
# of relations are added; so are the database's own owner and grantees and those that have settings
# in it, which are dependencies of the server. Roles named pg_* exist everywhere.
ROLES = """
SELECT DISTINCT r.rolname FROM pg_roles r
WHERE r.rolname !~ '^pg_' AND (
  r.oid IN (SELECT refobjid FROM pg_shdepend
            WHERE refclassid = 'pg_authid'::regclass
              AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
  OR r.oid IN (SELECT c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
  OR EXISTS (SELECT FROM pg_database d
             LEFT JOIN LATERAL aclexplode(d.datacl) AS acl ON true
             WHERE d.datname = current_database() AND r.oid IN (d.datdba, acl.grantee, acl.grantor))
  OR EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
             WHERE d.datname = current_database() AND s.setrole = r.oid))
ORDER BY 1
"""
MAY_READ_OBJECTS = """
SELECT current_setting('lo_compat_privileges')::bool
    OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""
HOLDER = """
SELECT a.usename = session_user, a.usename, a.backend_start,
       coalesce(a.client_addr::text, 'this host')
FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND (l.classid::bigint << 32) | l.objid::bigint = %s
"""


def lock_key(name: str) -> int:
    """Return the advisory lock's key of the database ``name``: a signed 64-bit number."""
    digest = hashlib.sha256(f"harmattan.backup:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


@contextmanager
def exclusive(uri: PostgresUri, name: str) -> Iterator[bool]:
    """Hold the lock of the database ``name`` on its own server and yield True, or raise at once.

    On the server and not on this host, because a forced job may run on another host. Whoever may
    log in there can take an advisory lock, so one of another role holds no backup up: two at a time
    cost time, and none costs the data.
    """
    with uri.connect("backup-lock") as connection:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", [lock_key(name)]).fetchone()
        if row != (True,):
            holder = connection.execute(HOLDER, [lock_key(name)]).fetchone()
            is_ours, role, since, place = holder or (True, "", None, "")
            if is_ours:
                when = f" (from {place} since {since:%Y-%m-%d %H:%M:%S%z})" if since else ""
                raise Failure(
                    f"a backup of {name} is already running{when}",
                    hint="Wait for it to end, or stop its allocation if it hangs.",
                )
            log.warning("another role holds the lock of a backup; none is waited for", role=role)
        yield True


class Snapshot:
    """An exported snapshot with its tables locked, and what is told about it beside the dump.

    pg_dump starts first, because whoever wants a table for himself before pg_dump has it as well
    stands between them. Then :meth:`begin`, and at the end :meth:`finish`.
    """

    source: Source
    extensions: dict[str, str]
    unvalidated: tuple[str, ...]
    tables: tuple[TableContents, ...]
    sequences: tuple[Sequence, ...]

    def __init__(
        self,
        identifier: str,
        connection: Connection,
        watch: Watch,
        sequences: dict[Name, int | None],
    ) -> None:
        """Take the session that holds it, its watch, and the sequences as they were before it."""
        self.identifier = identifier
        self.watch = watch
        self._connection = connection
        self._before = sequences
        self._inventory: Inventory | None = None

    def begin(self, connect: Callable[[], Connection], jobs: int, *, digests: bool) -> None:
        """Read the catalogue, and start to count or digest in ``jobs`` sessions. Raises Failure.

        They are sessions of their own: an error in one must not end the transaction that holds the
        snapshot and the locks.
        """
        with self._explained("catalogue could not be read"):
            tables = list_tables(self._connection)
            self.source = describe(self._connection)
            objects = large_objects(self._connection)
            self.extensions = extensions(self._connection)
            self.unvalidated = unvalidated(self._connection)
        if objects:
            _require_right_to_objects(self._connection)
        self._inventory = Inventory(
            connect, jobs, [*tables, *objects],
            digests=digests, snapshot=self.identifier, holder=self._connection,
        )  # fmt: skip
        self.watch.give_up_proofs = self._inventory.give_up_rest

    def finish(self) -> None:
        """Wait for what goes on beside the dump, which has ended, and let go of the source.

        Raises :class:`Disturbed` if the dump may not be of this snapshot, and Failure.
        """
        assert self._inventory  # noqa: S101 - it was begun
        self.tables = self._inventory.tables()
        self.watch.check()
        with self._explained("session of the snapshot was lost"):
            check_names(self._connection)
            now = self._sequences_now()
        self.watch.stop()
        self._connection.close()
        self.sequences = tuple(
            Sequence(schema_name=key[0], name=key[1], before=self._before.get(key), after=after)
            for key, after in now.items()
        )

    @property
    def is_of_standby(self) -> bool:
        """Whether the server says that it is a standby, as it does since version 14."""
        return self._connection.info.parameter_status("in_hot_standby") == "on"

    def close(self) -> None:
        """End what goes on beside the dump."""
        if self._inventory:
            self._inventory.close()

    def _sequences_now(self) -> dict[Name, int | None]:
        """Return the values of now, which know no snapshot: if need be, those of after it."""
        try:
            return sequence_values(self._connection)
        except errors.LockNotAvailable:
            self._connection.execute("ROLLBACK")
        patiently = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(errors.LockNotAvailable),
            wait=tenacity.wait_fixed(1),
            reraise=True,
        )
        return patiently(sequence_values, self._connection)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            self.watch.check()
            raise explained(what, error) from error


def as_dumped(
    sequences: Iterable[Sequence], dumped: Mapping[Name, int | None]
) -> tuple[Sequence, ...]:
    """Return the sequences with the dump's value where that is not between the two of a sequence.

    ALTER SEQUENCE and setval take it anywhere, and one that cycles begins again.
    """
    return tuple(
        each.model_copy(update={"before": value, "after": value})
        if (key := (each.schema_name, each.name)) in dumped
        and not each.may_stand_at(value := dumped[key])
        else each
        for each in sequences
    )


@contextmanager
def exported_snapshot(uri: PostgresUri, attempt: Attempt) -> Iterator[Snapshot]:
    """Open a snapshot that pg_dump can share, with every table locked.

    Raises :class:`Disturbed` where another attempt may do better, and Failure.
    """
    with (
        Watch(uri, attempt) as watch,
        closing(uri.connect(f"backup-snapshot-{attempt.name}")) as connection,
    ):
        try:
            connection.execute(f"SET lock_timeout = '{SLICE}'")
            sequences = sequence_values(connection)
            begin_locked(connection, watch.somebody_waits)
            identifier = str(_one(connection, "SELECT pg_export_snapshot()")[0])
        except psycopg.Error as error:
            watch.check()
            raise explained(f"no snapshot of database {uri.database()}", error) from error
        with closing(Snapshot(identifier, connection, watch, sequences)) as snapshot:
            yield snapshot


def _require_right_to_objects(connection: Connection) -> None:
    """Raise if large objects cannot be read: pg_read_all_data does not cover them."""
    if _one(connection, MAY_READ_OBJECTS) != (True,):
        raise Failure(
            f"database {connection.info.dbname} has large objects, which the role "
            f"{connection.info.user} may not read",
            hint=f"Let a superuser run: ALTER ROLE {connection.info.user} "
            "SET lo_compat_privileges = on.",
        )


def _one(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None  # noqa: S101 - each of these queries gives one row
    return row


def roles_of_server(connection: Connection) -> tuple[str, ...]:
    """Return all roles of the server but those that every server has."""
    found = connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1"
    ).fetchall()
    return tuple(printable(name) for (name,) in found)


def describe(connection: Connection) -> Source:
    """Return what is told of the database and its server."""
    (
        identifier, version, encoding, collate, ctype, provider, locale, size,
        superuser, icu_rules, tablespace, tablespaces, max_locks,
    ) = _one(connection, SOURCE)  # fmt: skip
    roles = tuple(printable(name) for (name,) in connection.execute(ROLES))
    return Source(
        system_identifier=identifier,
        server_version=version,
        encoding=encoding,
        collate=collate,
        ctype=ctype,
        provider=provider,
        locale=locale,
        size=size,
        roles=roles,
        superuser=superuser,
        icu_rules=icu_rules,
        tablespace=tablespace,
        tablespaces=tuple(tablespaces),
        max_locks=max_locks,
    )

"""What a database's tables hold, taken beside other work on sessions of its own.

Nothing that goes wrong here ends a backup: a table that cannot be read is in the inventory without
its proof, with the reason.
"""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, LiteralString

import psycopg
from psycopg import sql

from backup.manifest import TableContents
from backup.postgres.names import Quoted
from backup.source.contents import LARGE_OBJECTS, shown
from backup.source.digests import SETTINGS, look, reason, take
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Self

    from backup.postgres.connection import Connection
    from backup.postgres.names import Name
    from backup.source.digests import Manner, Shape, Taken

LOCK_WAIT = "3s"  # behind somebody's ALTER TABLE, which may itself wait for the dump
LOCK_WAIT_BESIDE_HOLDER = "200ms"  # who has the lock already
TRIES = 3  # of a table that was locked, or whose session was lost; the others come first
LOCKED = "55P03"  # lock_not_available
TRY_AGAIN = (LOCKED, "57014")  # and query_canceled: by whom is seen elsewhere

# Of each its number and the SHA-256 of pieces of 16 MiB: one call returns 1 GB at most.
_LARGE_OBJECTS: LiteralString = """
SELECT (SELECT count(*) FROM pg_largeobject_metadata),
       'pieces:' || sum(hashtextextended(t COLLATE "C", 0))
FROM (
  SELECT o.oid || ':' || start || ':' || encode(sha256(lo_get(o.oid, start, 16777216)), 'hex') AS t
  FROM pg_largeobject_metadata o
  CROSS JOIN LATERAL (SELECT lo_open(o.oid, 262144) AS handle OFFSET 0) AS opened  -- to read
  CROSS JOIN LATERAL (
    SELECT lo_lseek64(handle, 0, 2) AS size, lo_close(handle) OFFSET 0) AS closed  -- from its end
  CROSS JOIN LATERAL generate_series(0, size, 16777216) AS start) AS pieces
"""
_OBJECTS_COUNTED: LiteralString = "SELECT count(*), NULL FROM pg_largeobject_metadata"


class Inventory:
    """The rows of tables, counted and digested on connections of its own, each by itself.

    ``connect`` opens a session in autocommit mode, ``snapshot`` is the exported one that each
    table is read in, in a transaction that ends with it: so nothing gathers locks. ``manners`` says
    how to take a table's digest where it is to be held against one that is there. ``holder`` is the
    session that exported the snapshot and holds all tables. It reads those that nobody else can
    lock any more, because somebody waits for it; behind all others, when :meth:`tables` is called.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        jobs: int,
        tables: Iterable[Name],
        *,
        digests: bool,
        snapshot: str | None = None,
        manners: Mapping[Name, Manner] | None = None,
        holder: Connection | None = None,
    ) -> None:
        """Start at once."""
        self._holder = holder
        self._left_to_holder: deque[Name] = deque()
        self._locked_out: set[Name] = set()
        self._connect = connect
        self._left = deque(tables)
        self._digests = digests
        self._snapshot = snapshot
        self._manners = manners or {}
        self._tries: Counter[Name] = Counter()
        self._given_up: dict[Name, str] = {}
        self._busy: dict[int, tuple[Name, Connection]] = {}
        self._no_session = ""
        self._pool = ThreadPoolExecutor(jobs, thread_name_prefix="inventory")
        self._working = [self._pool.submit(self._work) for _ in range(jobs)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def working(self) -> dict[int, Name]:
        """Return which backend of the server reads which table now."""
        return {backend: table for backend, (table, _) in dict(self._busy).items()}

    def give_up_rest(self, why: str) -> None:
        """Let all tables that are not done be without their proofs because of ``why``."""
        for table in (*self._left, *self._left_to_holder, *self.working().values()):
            self._given_up[table] = why
        self._cancel_all()

    def tables(self) -> tuple[TableContents, ...]:
        """Wait for the work to end and return each table, by name."""
        contents = [table for working in self._working for table in working.result()]
        if self._holder:
            contents += self._read_by_holder(self._holder)
        left = (*self._left, *self._left_to_holder)
        contents += [_contents(table, None, why=self._no_session) for table in left]
        return tuple(sorted(contents, key=lambda table: (table.schema_name, table.table)))

    def close(self) -> None:
        """End the work, finished or not."""
        self.give_up_rest("stopped")
        self._pool.shutdown(cancel_futures=True)

    def _cancel_all(self) -> None:
        for _, connection in list(self._busy.values()):
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=5)

    def _work(self) -> list[TableContents]:
        contents: list[TableContents] = []
        while self._left:
            try:
                with closing(self._connect()) as connection:
                    connection.execute(SETTINGS)
                    contents += self._read_tables(connection)
            except Failure as error:
                self._no_session = f"no session for it: {error.message}"
                break
            except psycopg.Error as error:
                self._no_session = f"no session for it: {reason(error)}"
                break
        return contents

    def _read_tables(self, connection: Connection) -> Iterator[TableContents]:
        """Yield tables until none is left, or the session is lost."""
        ((backend,),) = connection.execute("SELECT pg_backend_pid()").fetchall()
        while not connection.closed:
            try:
                table = self._left.popleft()
            except IndexError:  # another session took the last one
                return
            self._busy[backend] = table, connection
            try:
                contents = self._read(connection, table)
            finally:
                del self._busy[backend]
            if contents is None:
                self._try_again(table)
            else:
                yield contents

    def _read_by_holder(self, holder: Connection) -> Iterator[TableContents]:
        while not holder.closed and (self._left or self._left_to_holder):
            self._left.extend(self._left_to_holder)
            self._left_to_holder.clear()
            with suppress(psycopg.Error):  # of a session that was lost, which then is closed
                holder.execute(SETTINGS)
            yield from self._read_tables(holder)

    def _try_again(self, table: Name) -> None:
        if self._holder and table in self._locked_out:
            self._left_to_holder.append(table)
        else:
            self._left.append(table)

    def _read(self, connection: Connection, table: Name) -> TableContents | None:
        """Return what ``table`` holds, or None if it is to be tried again after the others."""
        self._tries[table] += 1
        ways: tuple[Manner, ...] = ()
        failed, why = 0, None
        while table not in self._given_up:
            try:
                with self._transaction(connection, table):
                    if table == LARGE_OBJECTS:
                        return _contents(table, _large_objects(connection, self._digests))
                    shape = look(connection, table)
                    ways = self._ways(shape)
                    taken = take(connection, shape, ways[failed])
                    return _contents(table, taken, why if ways[failed:] == ("count",) else None)
            except psycopg.Error as error:
                failed += 1
                if why is None or failed < len(ways):  # that of a mere count says no more
                    why = reason(error)
                if error.sqlstate == LOCKED:
                    self._locked_out.add(table)
                if connection.closed or error.sqlstate in TRY_AGAIN:
                    if self._tries[table] < TRIES and table not in self._given_up:
                        return None
                    break
                if failed >= len(ways):
                    break
        return _contents(table, None, self._given_up.get(table, why))

    def _ways(self, shape: Shape) -> tuple[Manner, ...]:
        """Return how to take the digest, and how if that fails; the last is a mere count."""
        if not self._digests:
            return ("count",)
        wanted = self._manners.get(shape.table, "columns")
        if wanted == "copy" or shape.runs_code:
            return ("copy", "count")
        if shape.table in self._manners:
            return (wanted, "count") if wanted != "count" else ("count",)
        return (wanted, "copy", "count")

    @contextmanager
    def _transaction(self, connection: Connection, table: Name) -> Iterator[None]:
        """Have a transaction in the snapshot with nothing locked but ``table``."""
        if connection is self._holder:
            connection.execute("SAVEPOINT proof")
            try:
                yield
            finally:  # and with it go the locks on indexes
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK TO SAVEPOINT proof; RELEASE SAVEPOINT proof")
            return
        wait = LOCK_WAIT_BESIDE_HOLDER if self._holder else LOCK_WAIT
        statements = [
            sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"),
            sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(wait)),
        ]
        if self._snapshot:
            identifier = sql.Literal(self._snapshot)
            statements.insert(1, sql.SQL("SET TRANSACTION SNAPSHOT {}").format(identifier))
        if table != LARGE_OBJECTS:
            lock = sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(Quoted(*table))
            statements.append(lock)
        try:
            connection.execute(sql.SQL("; ").join(statements))
            yield
        finally:
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK")


def _large_objects(connection: Connection, digests: bool) -> Taken:
    query = _LARGE_OBJECTS if digests else _OBJECTS_COUNTED
    ((rows, digest),) = connection.execute(query).fetchall()
    return rows, digest


def _contents(table: Name, taken: Taken | None, why: str | None = None) -> TableContents:
    rows, digest = taken or (None, None)
    schema, name = shown(table)
    return TableContents(schema_name=schema, table=name, rows=rows, digest=digest, unproved=why)

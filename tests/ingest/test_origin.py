"""A source table is what it was, or it is seen: other servers, other files, other transactions."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from ingest import status
from ingest.errors import RunFailedError
from ingest.origin import CRASHED, UNKNOWN, Leaf, Moment, Moved, Origin, compare
from tests.backup.clusters import Cluster, cluster, counting_from
from tests.ingest.staff import load
from tests.ingest.test_convergence import QUICK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.run import Loaded
    from tests.ingest.world import World

MOMENT = Moment("7301", 1, 16384, oldest=2**33 + 5, newest=2**33 + 9)
BEFORE = Origin(MOMENT, 100, (Leaf(100, 100),))
CURSOR = "name: public.staff\n    load: incremental\n    cursor: at"
FOLLOWING = "name: public.staff\n    load: incremental"
APPEND = "name: public.staff\n    load: append\n    cursor: id"
KEYED = f"{APPEND}\n    key: [id]"
STAFF = (
    "CREATE TABLE staff (id int PRIMARY KEY, name text, pay int, at timestamptz)",
    "INSERT INTO staff SELECT n, 'Name ' || n, n * 10, '2026-01-01' FROM generate_series(1, 20) n",
)


@pytest.mark.parametrize(
    ("newest", "oldest", "same"),
    [
        (MOMENT.newest, MOMENT.oldest, True),
        (MOMENT.oldest + 2**31 - 1, MOMENT.oldest + 2**31 - 1, True),
        (MOMENT.oldest + 2**31, MOMENT.oldest + 2**31, False),
        (MOMENT.oldest - 1, MOMENT.oldest - 1, False),
    ],
)
def test_transactions_are_compared_within_half_of_their_circle(
    newest: int, oldest: int, same: bool
) -> None:
    now = replace(BEFORE, moment=replace(MOMENT, newest=newest, oldest=oldest))
    found = compare(BEFORE, now)
    assert found == (Moved() if same else Moved("the source has another history of transactions"))


def test_an_older_release_that_did_not_say_where_rows_came_from_is_taken_as_it_is() -> None:
    assert compare(None, BEFORE) == Moved()


# What happens to a table between two nights.
NIGHTS = {
    "dropped, and loaded again under the same keys": (
        "DROP TABLE staff", STAFF[0],
        "INSERT INTO staff SELECT n, 'Other ' || n, n, '2025-01-01' FROM generate_series(1, 20) n",
    ),
    "emptied, and loaded again": (
        "TRUNCATE staff",
        "INSERT INTO staff SELECT n, 'Other ' || n, n, '2025-01-01' FROM generate_series(2, 21) n",
    ),
    "retyped by an expression": ("ALTER TABLE staff ALTER pay TYPE bigint USING pay * 100",),
    "rewritten as it was": ("CLUSTER staff USING staff_pkey",),
    "replaced by another of its name": (
        "CREATE TABLE next (LIKE staff INCLUDING ALL)",
        "INSERT INTO next SELECT id, 'next', pay, '2025-01-01' FROM staff",
        "ALTER TABLE staff RENAME TO last; ALTER TABLE next RENAME TO staff",
    ),
    "a column made anew": (
        "ALTER TABLE staff ADD pay_new bigint; UPDATE staff SET pay_new = pay * 2",
        "ALTER TABLE staff DROP pay; ALTER TABLE staff RENAME pay_new TO pay",
    ),
    "a column with a value for all": ("ALTER TABLE staff ADD grade text DEFAULT 'A'",),
    "changed without its cursor": ("UPDATE staff SET pay = 7 WHERE id < 9",),
    "rows of years ago": ("INSERT INTO staff VALUES (90, 'late', 1, '1999-01-01')",),
}  # fmt: skip


# A table for each way of loading it, each with its own rule.
WAYS = {
    f"staff_{how}_{evolves}": f"{rule}\n    deletes: detect\n    on_schema_change: {evolves}"
    for how, rule in (("cursor", CURSOR), ("following", FOLLOWING))
    for evolves in ("evolve", "refresh")
}


def renamed(table: str, *texts: str) -> list[str]:
    """Return ``texts``, which speak of ``staff`` and what is beside it, with ``table`` in it."""
    names = {"staff": table, "next": f"{table}_next", "last": f"{table}_last"}
    return [
        re.sub(r"(?<!')\b(staff|next|last)(?=\b|_pkey)", lambda found: names[found[0]], text)
        for text in texts
    ]


@pytest.mark.parametrize("night", NIGHTS)
def test_the_warehouse_holds_what_the_source_holds_after(world: World, night: str) -> None:
    rules = [renamed(table, rule)[0] for table, rule in WAYS.items()]
    world.at_source(*(text for table in WAYS for text in renamed(table, *STAFF)))
    world.run(*rules)
    world.at_source(*(text for table in WAYS for text in renamed(table, *NIGHTS[night])))
    world.run(*rules)
    for table in WAYS:
        world.assert_same(f"public.{table}", f"raw_hr.{table}")
    again = world.run(*rules).loaded
    assert {
        each.table: (each.load, each.inserted + each.updated + each.deleted) for each in again
    } == {f"raw_hr.{table}": ("incremental", 0) for table in WAYS}


def at(world: World, uri: str) -> World:
    """Return the world whose source is another database, read by its superuser."""
    return replace(world, source_admin=uri, source=uri)


def make(uri: str, *statements: str) -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            "DO $$ BEGIN CREATE ROLE ingest_reader; EXCEPTION WHEN OTHERS THEN END $$"
        )
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def primary() -> Iterator[Cluster]:
    with cluster(15, "wal_level=replica", "max_prepared_transactions=10") as made:
        yield made


@pytest.fixture(scope="module")
def asynchronous() -> Iterator[Cluster]:
    """A server whose log is written seconds after what is not waited for."""
    with cluster(15, "wal_writer_delay=10s", "autovacuum=off") as made:
        yield made


@pytest.fixture
def elsewhere(world: World, primary: Cluster) -> World:
    """A source on a server of its own."""
    name = f"source_{secrets.token_hex(3)}"
    make(primary.uri(), f"CREATE DATABASE {name} TEMPLATE template0")
    make(primary.uri(name), *STAFF)
    return at(world, primary.uri(name))


@pytest.mark.parametrize("rule", [CURSOR, FOLLOWING], ids=["cursor", "following"])
def test_a_connection_that_points_elsewhere_mixes_no_rows(
    world: World, elsewhere: World, rule: str
) -> None:
    world.at_source(*STAFF, "INSERT INTO staff VALUES (500, 'of the first', 0, '2026-01-01')")
    load(world, rule)
    loaded = load(elsewhere, rule)
    assert (loaded.load, loaded.reason) == ("full", "the source is another server")
    elsewhere.assert_same("public.staff", "raw_hr.staff")
    copy = f"copy_{secrets.token_hex(3)}"
    original = elsewhere.source.rpartition("/")[2]
    server = elsewhere.source.removesuffix(original)
    make(f"{server}postgres", f"CREATE DATABASE {copy} TEMPLATE {original}")
    make(server + copy, "UPDATE staff SET name = 'of the copy'")
    loaded = load(at(world, server + copy), rule)
    assert (loaded.load, loaded.reason) == ("full", "the source is another database")
    at(world, server + copy).assert_same("public.staff", "raw_hr.staff")


def test_an_append_takes_no_rows_of_another_source_or_of_a_table_made_anew(
    world: World, elsewhere: World
) -> None:
    world.at_source(*STAFF)
    load(world, APPEND)
    with pytest.raises(RunFailedError, match="those that are there, found the source is another"):
        load(elsewhere, APPEND)
    world.at_source("DROP TABLE staff", *STAFF, "INSERT INTO staff VALUES (21, 'new', 0, NULL)")
    with pytest.raises(RunFailedError, match="found the source table was made anew") as refused:
        load(world, APPEND)
    assert "--full-refresh" in refused.value.hint
    assert world.rows("SELECT count(*), max(id) FROM raw_hr.staff") == [(20, 20)]


def test_a_server_that_is_made_anew_every_night_has_no_renames(world: World) -> None:
    """Its tables have the oids of last night's, and other columns under their numbers.

    So have its rows the transactions, and its log has the positions.
    """
    found: list[Loaded] = []
    people = "(id int PRIMARY KEY, {}last_name text, email text)"
    rule = "name: public.people\n    load: incremental\n    on_schema_change: evolve"
    for columns, values in (("first_name text, ", "'Ada', "), ("", "")):
        with cluster(15) as night:
            make(
                night.uri(),
                f"CREATE TABLE people {people.format(columns)}",
                f"INSERT INTO people VALUES (1, {values}'Lovelace', 'ada@example.org')",
                *STAFF, f"UPDATE staff SET name = 'of night {columns}'",
                "ALTER ROLE ingest_reader LOGIN", "GRANT pg_read_all_data TO ingest_reader",
                "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC",
            )  # fmt: skip
            here = at(world, night.uri())
            load(here, rule)
            here.assert_same("public.people", "raw_hr.people")
            # A role that may not ask for the system's identifier.
            least = replace(here, source=night.uri(user="ingest_reader"))
            found.append(load(least, FOLLOWING))
            least.assert_same("public.staff", "raw_hr.staff")
            found.append(load(least, FOLLOWING))
    assert [(each.load, each.reason) for each in found] == [
        ("full", "first load"), ("incremental", "rows that were written since the last load"),
        ("full", UNKNOWN), ("incremental", "rows that were written since the last load"),
    ]  # fmt: skip


# A transaction each, of 3,500.
MANY = """
    DO $$ BEGIN FOR n IN 1..3500 LOOP
      BEGIN INSERT INTO staff (id) VALUES (1); EXCEPTION WHEN unique_violation THEN END;
    END LOOP; END $$
"""


def test_no_transaction_is_missed_where_their_counter_turns(world: World) -> None:
    with cluster(15) as server, counting_from(server, 2**32 - 3000):
        make(server.uri(), *STAFF)
        here = at(world, server.uri())
        load(here, FOLLOWING)
        with psycopg.connect(server.uri()) as late:
            late.execute("INSERT INTO staff VALUES (50, 'begun before', 0, '2026-01-02')")
            make(server.uri(), MANY, "INSERT INTO staff VALUES (51, 'after', 0, '2026-01-02')")
            found = load(here, FOLLOWING)
            assert (found.load, found.inserted) == ("incremental", 1)
            here.assert_same("public.staff", "raw_hr.staff")
            make(server.uri(), "UPDATE staff SET pay = 1 WHERE id = 5")
        found = load(here, FOLLOWING)
        assert (found.load, found.inserted, found.updated) == ("incremental", 1, 1)
        here.assert_same("public.staff", "raw_hr.staff")
        assert here.source_rows(
            "SELECT count(*) FILTER (WHERE xmin::text::bigint > 4000000000),"
            " count(*) FILTER (WHERE xmin::text::bigint < 4000) FROM staff"
        ) == [(20, 2)]
        # From here on the number that it starts from has turned, too.
        load(here, FOLLOWING)
        make(server.uri(), "UPDATE staff SET pay = 2 WHERE id = 6")
        found = load(here, FOLLOWING)
        assert (found.load, found.read, found.updated) == ("incremental", 1, 1)
        here.assert_same("public.staff", "raw_hr.staff")


@pytest.mark.parametrize("rule", [CURSOR, FOLLOWING, KEYED], ids=["cursor", "following", "keyed"])
def test_what_a_crash_of_the_source_took_back_is_no_row_of_the_warehouse(
    world: World, asynchronous: Cluster, rule: str
) -> None:
    uri = asynchronous.uri()
    make(uri, "DROP TABLE IF EXISTS staff", *STAFF, "CHECKPOINT")
    here = at(world, uri)
    load(here, rule)
    # Both are visible before they are in the log, and so are the numbers of what was rolled back.
    lost = "INSERT INTO staff VALUES (77, 'lost', 0, '2026-01-02')"
    if rule != KEYED:
        off = "SET synchronous_commit = off"
        make(uri, off, "UPDATE staff SET pay = 1 WHERE id = 5", lost)
    make(uri, *["BEGIN; SELECT pg_current_xact_id(); ROLLBACK"] * 20)
    load(here, rule)
    with psycopg.connect(uri) as victim, psycopg.connect(uri) as other:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):  # the server ends all others, and is down
            other.execute("SELECT pg_sleep(30)")
    recovered(uri)
    reused = "INSERT INTO staff VALUES (21, 'under a number used before', 0, '1999-01-01')"
    make(uri, reused, *["SELECT pg_current_xact_id()"] * 60)
    assert load(here, rule).reason == CRASHED
    here.assert_same("public.staff", "raw_hr.staff")
    assert load(here, rule).load in rule


def recovered(uri: str) -> None:
    """Wait until a server that crashed lets sessions in again."""
    for _ in range(200):
        with suppress(psycopg.OperationalError):
            psycopg.connect(uri).close()
            return
        time.sleep(0.05)
    raise AssertionError("the server does not come back")


CONTROLLED = "SELECT timeline_id FROM pg_control_checkpoint()"


def replayed(standby: Cluster, primary: str) -> None:
    """Wait until the standby has all that its primary has committed: that is flushed."""
    with psycopg.connect(primary, autocommit=True) as connection:
        ((position,),) = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchall()
    with psycopg.connect(standby.uri(), autocommit=True) as connection:
        for _ in range(200):
            ((there,),) = connection.execute(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [str(position)]
            ).fetchall()
            if there:
                return
            connection.execute("SELECT pg_sleep(0.05)")
    raise AssertionError("the standby does not follow")


def test_a_standby_is_read_by_its_transactions_and_a_failover_that_loses_some_is_seen(
    world: World, elsewhere: World, primary: Cluster
) -> None:
    name = elsewhere.source.rpartition("/")[2]
    with cluster(
        15, "max_prepared_transactions=10", "checkpoint_timeout=1d", standby_of=primary
    ) as second:
        behind = at(world, second.uri(name))
        replayed(second, elsewhere.source)
        load(behind, FOLLOWING)
        make(elsewhere.source, "UPDATE staff SET pay = 1 WHERE id = 5")
        replayed(second, elsewhere.source)
        found = load(behind, FOLLOWING)
        assert (found.load, found.updated) == ("incremental", 1)
        elsewhere.assert_same("public.staff", "raw_hr.staff")
        # The other of the two is the same source.
        make(elsewhere.source, "UPDATE staff SET pay = 2 WHERE id = 6")
        found = load(elsewhere, FOLLOWING)
        assert (found.load, found.updated) == ("incremental", 1)
        # What is committed from here on is never replicated.
        make(second.uri(), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        with psycopg.connect(primary.uri(), autocommit=True) as connection:
            for _ in range(200):
                if not connection.execute("SELECT FROM pg_stat_replication").fetchall():
                    break
                connection.execute("SELECT pg_sleep(0.05)")
        make(elsewhere.source, "INSERT INTO staff VALUES (77, 'lost', 0, '2026-01-02')")
        load(elsewhere, FOLLOWING)
        make(second.uri(), "SELECT pg_promote()")
        with psycopg.connect(second.uri()) as connection:  # whose first checkpoint takes a while
            assert connection.execute(CONTROLLED).fetchall() == [(1,)]
        make(behind.source, "INSERT INTO staff VALUES (78, 'kept', 0, '2026-01-02')")
        loaded = load(behind, FOLLOWING)
        assert (loaded.load, loaded.reason) == (
            "full", "the source had a failover or was restored"
        )  # fmt: skip
        behind.assert_same("public.staff", "raw_hr.staff")


def test_a_role_that_may_not_ask_for_the_system_is_known_by_the_rest(world: World) -> None:
    world.at_source(*STAFF)
    with psycopg.connect(world.source_admin, autocommit=True) as connection:
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        try:
            load(world, FOLLOWING)
            world.at_source("UPDATE staff SET pay = 1 WHERE id = 5")
            assert load(world, FOLLOWING).load == "incremental"
            world.assert_same("public.staff", "raw_hr.staff")
            load(world, APPEND, full_refresh=True)
            # A crash has the same effect, and another server, too.
            connection.execute("SELECT pg_stat_reset_shared('archiver')")
            with pytest.raises(RunFailedError, match=re.escape(UNKNOWN)) as refused:
                load(world, APPEND)
            assert "`ingest reset FILE --table NAME` goes on" in refused.value.hint
            assert "GRANT EXECUTE ON FUNCTION pg_control_system()" in refused.value.hint
        finally:
            connection.execute("GRANT EXECUTE ON FUNCTION pg_control_system() TO PUBLIC")
    job = world.job(APPEND)
    with job.warehouse() as warehouse:
        status.reset(warehouse, job.pipeline, job.name, ())
    world.at_source("INSERT INTO staff VALUES (21, 'new', 0, '2026-01-02')")
    assert load(world, APPEND).inserted == 1
    assert load(world, APPEND).load == "append"
    world.assert_same("public.staff", "raw_hr.staff")


PARTS = (
    "CREATE TABLE staff (id int, name text, pay int, at timestamptz, PRIMARY KEY (id))"
    " PARTITION BY RANGE (id)",
    "CREATE TABLE staff_1 PARTITION OF staff FOR VALUES FROM (1) TO (100)",
    STAFF[1],
    "CREATE TABLE staff_2 (LIKE staff INCLUDING ALL)",
    "INSERT INTO staff_2 SELECT n, 'old', 0, '1999-01-01' FROM generate_series(100, 150) n",
)
ATTACH = "ALTER TABLE staff ATTACH PARTITION staff_2 FOR VALUES FROM (100) TO (200)"


@pytest.mark.parametrize("rule", [CURSOR, FOLLOWING, APPEND], ids=["cursor", "following", "append"])
def test_a_partition_that_comes_with_old_rows_brings_them(world: World, rule: str) -> None:
    world.at_source(*PARTS)
    load(world, rule)
    world.at_source(ATTACH)
    loaded = load(world, rule)
    assert (loaded.load, loaded.inserted) == ("append" if rule is APPEND else "incremental", 51)
    world.assert_same("public.staff", "raw_hr.staff")
    world.at_source("TRUNCATE staff_2", "INSERT INTO staff VALUES (120, 'anew', 5, '1999-01-01')")
    again = load(world, rule)
    assert again.inserted + again.updated == (0 if rule is APPEND else 1)


def test_a_partition_that_is_attached_meanwhile_is_for_the_next_run(world: World) -> None:
    world.at_source(*PARTS)
    attached = []

    def attach(_table: str, _size: int) -> None:
        if not attached:
            attached.append(True)
            world.at_source(ATTACH)

    assert load(world, FOLLOWING, progress=attach).rows == 20
    assert load(world, FOLLOWING).rows == 71
    world.assert_same("public.staff", "raw_hr.staff")


# An append keeps what it has.


def test_a_column_of_an_append_that_goes_stays_with_its_values(world: World) -> None:
    world.at_source(*STAFF)
    load(world, APPEND)
    world.at_source("ALTER TABLE staff DROP pay", "INSERT INTO staff VALUES (21, 'new', now())")
    assert load(world, APPEND).load == "append"
    assert world.rows("SELECT count(pay), sum(pay), count(*) FROM raw_hr.staff") == [(20, 2100, 21)]
    world.at_source("ALTER TABLE staff ADD pay int", "INSERT INTO staff VALUES (22, 'x', now(), 7)")
    assert load(world, APPEND).load == "append"
    assert world.rows("SELECT count(pay), sum(pay), count(*) FROM raw_hr.staff") == [(21, 2107, 22)]


def test_a_column_of_an_append_that_is_made_anew_keeps_its_values_in_the_wider_type(
    world: World,
) -> None:
    world.at_source(*STAFF)
    load(world, APPEND)
    world.at_source(
        "ALTER TABLE staff ADD pay_new bigint; UPDATE staff SET pay_new = pay",
        "ALTER TABLE staff DROP pay; ALTER TABLE staff RENAME pay_new TO pay",
        "INSERT INTO staff (id, pay) VALUES (21, 3000000000)",
    )
    assert load(world, APPEND).load == "append"
    assert world.rows("SELECT sum(pay), pg_typeof(min(pay))::text FROM raw_hr.staff") == [
        (3000002100, "bigint")
    ]
    world.at_source(
        "ALTER TABLE staff ADD pay_date date",
        "ALTER TABLE staff DROP pay; ALTER TABLE staff RENAME pay_date TO pay",
    )
    with pytest.raises(RunFailedError, match="column pay was made anew as date"):
        load(world, APPEND)


def test_a_cursor_that_went_back_under_an_append_is_told(world: World) -> None:
    world.at_source(*STAFF)
    load(world, APPEND)
    world.at_source("TRUNCATE staff", "INSERT INTO staff VALUES (1, 'again', 0, now())")
    with pytest.raises(
        RunFailedError, match=r"id to go on from 20, found .* begins before it, at 1"
    ):
        load(world, APPEND)
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(20,)]
    world.at_source("TRUNCATE staff", "INSERT INTO staff VALUES (21, 'further', 0, now())")
    assert load(world, APPEND).inserted == 1


# Keys.


@pytest.mark.parametrize(
    "more",
    ["load: full", "load: incremental", "load: incremental\n    deletes: detect",
     "load: incremental\n    cursor: at", "load: append\n    cursor: id"],
)  # fmt: skip
def test_a_key_that_comes_twice_is_told_with_samples_at_every_run(world: World, more: str) -> None:
    rule = f"name: public.staff\n    key: [badge]\n    {more}"
    world.at_source(*STAFF, "ALTER TABLE staff ADD badge int; UPDATE staff SET badge = id")
    load(world, rule)
    world.at_source("INSERT INTO staff VALUES (100, 'second', 0, '2026-01-05', 7)")
    for _ in range(2):
        with pytest.raises(RunFailedError, match=r"keys that come more than once: \(7\)"):
            load(world, rule)
    assert world.rows("SELECT count(*) FROM raw_hr.staff") == [(20,)]


# Whatever transactions do.


class Game:
    """Sessions on one table whose transactions overlap, and runs in between."""

    def __init__(self, world: World, data: st.DataObject, stack: ExitStack) -> None:
        self.world, self.draw, self.serial = world, data.draw, 100
        self.admin = stack.enter_context(psycopg.connect(world.source_admin, autocommit=True))
        self.sessions = [
            stack.enter_context(psycopg.connect(world.source_admin, options="-c lock_timeout=20ms"))
            for _ in range(3)
        ]
        self.prepared: list[str] = []
        self.admin.execute("DROP TABLE IF EXISTS staff CASCADE")
        # A comparison of keys would find some of what was missed.
        self.deletes = self.draw(st.sampled_from(["ignore", "ignore", "detect"]), label="deletes")
        parted = self.draw(st.booleans(), label="partitions")
        made = "(id int PRIMARY KEY, pay int)"
        if parted:
            self.admin.execute(f"CREATE TABLE staff {made} PARTITION BY HASH (id)".encode())
            for part in range(2):
                self.admin.execute(
                    f"CREATE TABLE staff_{part} PARTITION OF staff FOR VALUES WITH"
                    f" (MODULUS 2, REMAINDER {part})".encode()
                )
        else:
            self.admin.execute(f"CREATE TABLE staff {made} WITH (fillfactor = 50)".encode())
        self.admin.execute("INSERT INTO staff SELECT n, 0 FROM generate_series(1, 6) n")

    def write(self, session: psycopg.Connection[Any]) -> None:
        self.serial += 1
        statement = self.draw(
            st.sampled_from(
                [
                    f"INSERT INTO staff VALUES ({self.serial}, 0)",
                    f"UPDATE staff SET pay = {self.serial} WHERE id = {self._one()}",
                    f"DELETE FROM staff WHERE id = {self._one()}",
                    f"UPDATE staff SET id = {self.serial} WHERE id = {self._one()}",
                ]
            ),
            label="statement",
        )
        note(f"-- {self.sessions.index(session)}: {statement}")
        session.execute("SELECT")  # begins, if nothing is open
        try:
            with session.transaction():  # a savepoint within it
                session.execute(statement.encode())
                if self.draw(st.integers(0, 4), label="undone at 4") == 4:
                    raise psycopg.Rollback
        except psycopg.errors.LockNotAvailable:
            pass

    def _one(self) -> int:
        return self.draw(st.integers(1, 6), label="row")

    def end(self, session: psycopg.Connection[Any]) -> None:
        how = self.draw(st.sampled_from(["commit", "commit", "rollback", "prepare"]), label="end")
        note(f"-- {self.sessions.index(session)}: {how}")
        if how == "prepare" and session.info.transaction_status.name == "INTRANS":
            name = f"t{secrets.token_hex(4)}"
            session.execute(f"PREPARE TRANSACTION '{name}'".encode())
            self.prepared.append(name)
        session.rollback() if how == "rollback" else session.commit()

    def settle(self) -> None:
        """End one of the transactions that were prepared."""
        if self.prepared:
            how = self.draw(st.sampled_from(["COMMIT", "ROLLBACK"]), label="prepared")
            self.admin.execute(f"{how} PREPARED '{self.prepared.pop(0)}'".encode())

    def freeze(self) -> None:
        self.admin.execute("SET lock_timeout = '20ms'")
        with suppress(psycopg.errors.LockNotAvailable):
            self.admin.execute("VACUUM (FREEZE) staff")

    def run(self) -> None:
        note("-- run")
        self.admin.execute("SELECT pg_current_xact_id()")  # one that began later and has ended
        loaded = load(self.world, f"{FOLLOWING}\n    deletes: {self.deletes}")
        note(str(loaded))
        if self.deletes == "detect":
            self.world.assert_same("public.staff", "raw_hr.staff")
            return
        rows = "SELECT id, pay FROM {}"
        there = self.world.rows(rows.format("raw_hr.staff"))
        assert {*self.world.source_rows(rows.format("staff"))} - {*there} == set()

    def over(self) -> None:
        for session in self.sessions:
            session.rollback()
        for name in self.prepared:
            self.admin.execute(f"ROLLBACK PREPARED '{name}'".encode())


def play(world: World, data: st.DataObject) -> None:
    with ExitStack() as stack:
        game = Game(world, data, stack)
        stack.callback(game.over)
        game.run()
        for _ in range(data.draw(st.integers(4, 30), label="steps")):
            what = data.draw(st.sampled_from(["write"] * 6 + ["end"] * 3 + ["run"] * 3
                                             + ["settle", "freeze"]), label="step")  # fmt: skip
            if what in ("write", "end"):
                getattr(game, what)(data.draw(st.sampled_from(game.sessions), label="session"))
            else:
                getattr(game, what)()
        game.run()


@settings(QUICK, max_examples=8)
@given(data=st.data())
def test_no_transaction_is_missed(elsewhere: World, data: st.DataObject) -> None:
    play(elsewhere, data)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@settings(QUICK, max_examples=2000)
@given(data=st.data())
def test_no_transaction_is_missed_in_many_ways(elsewhere: World, data: st.DataObject) -> None:
    play(elsewhere, data)

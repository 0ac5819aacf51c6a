"""A query of a pipeline file reads what readers may read, and does nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from frame.failure import Failure
from ingest import connections, run
from ingest.errors import CheckFailedError, UnknownConnectionError

if TYPE_CHECKING:
    from tests.ingest.world import World

STAFF = (
    "CREATE TABLE staff (id int PRIMARY KEY, badge text, updated_at timestamptz DEFAULT now())",
    "INSERT INTO staff SELECT n, 'AB-' || n FROM generate_series(1, 100) n",
)
LOADS = ("", "\n    load: incremental\n    cursor: updated_at")
GRANTED = """
    SELECT has_schema_privilege(role, 'raw_hr_staging', 'USAGE'),
           has_table_privilege(role, 'raw_hr_staging.staff', 'SELECT')
    FROM unnest(ARRAY['ingest_checks', 'warehouse_readers']) AS role
"""


def rule(load: str = "", **queries: str) -> str:
    listed = "".join(f"\n        {name}: |-\n          {text}" for name, text in queries.items())
    return f"name: public.staff{load}\n    checks:\n      sql:{listed}"


def refused(world: World, load: str = "", **queries: str) -> str:
    """Return what is said of a run whose queries do not all find true."""
    with pytest.raises(CheckFailedError) as failure:
        world.run(rule(load, **queries))
    return failure.value.message


# The parser that stood here once read `#-` as an operator, and the rest as its operand.
SMUGGLED = (
    "select true from {table} limit 1); create table public.owned ()",
    "select count(*) > 0 from {table} #-- \n; commit; create table public.owned ()",
    "select true from {table} limit 1) as answer; commit; create table public.owned () --",
)


@pytest.mark.parametrize("load", LOADS)
def test_a_query_reads_what_readers_may_read_and_changes_nothing(world: World, load: str) -> None:
    world.at_source(*STAFF)
    world.run(f"name: public.staff{load}")
    world.at_source("UPDATE staff SET id = id")  # so that an increment has rows, too
    with psycopg.connect(world.warehouse_admin) as connection:
        connection.execute("CREATE SCHEMA private AUTHORIZATION ingest_loader")
        connection.execute("CREATE TABLE private.pay (amount int)")
        connection.execute("ALTER TABLE private.pay OWNER TO ingest_loader")
        connection.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    cases = {
        # What only reads, and finds something else than true.
        "select count(*) = 0 from ops.state, {table}": "false",
        "select count(*) <> 100 from {table}": "false",
        "select current_user = 'ingest_loader' from {table} limit 1": "false",
        "select id from {table}": "not one row of one true or false",
        # What is refused for want of rights, or because nothing is written.
        "select count(*) = 0 from private.pay, {table}": "permission denied",
        "select set_config('role', 'ingest_loader', true) = '' from {table}": "permission denied",
        "select query_to_xml('create table public.owned ()', true, true, '') is null from {table}":
            "CREATE TABLE is not allowed",
        "select set_config('transaction_read_only', 'off', true) = 'off' from {table} limit 1":
            "transaction read-write mode must be set before any query",
        "with gone as (delete from {table} returning 1) select true from gone": "top level",
        "select pg_terminate_backend(pid) from pg_stat_activity, {table}"
        " where usename = 'ingest_loader' limit 1": "permission denied|must be a member",
        "select true from nowhere.at_all, {table}": "does not exist",
        **dict.fromkeys(SMUGGLED, "must have an alias|syntax error|multiple commands"),
    }  # fmt: skip
    queries = {f"q{place}": query for place, query in enumerate(cases)}
    said = refused(world, load, **{name: query.replace("\n", "\n          ")
                                   for name, query in queries.items()})  # fmt: skip
    found = {line.partition(" sql.")[2].partition(":")[0]: line for line in said.splitlines()}
    for name, query in queries.items():
        assert any(part in found[name] for part in cases[query].split("|")), found[name]
    assert world.rows("SELECT to_regclass('public.owned')") == [(None,)]
    assert world.rows("SELECT count(*) FROM raw_hr_staging.staff") == [(100,)]
    # What was granted for the moment is gone, and so is the view of what a merge makes.
    assert world.rows(GRANTED) == [(False, False)] * 2
    assert world.rows(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'raw_hr_staging'::regnamespace"
        " AND relkind = 'v'"
    ) == [(0,)]


def test_what_a_query_sets_or_holds_ends_with_it(world: World) -> None:
    world.at_source(*STAFF)
    said = refused(
        world,
        first="select bool_and(set_config('statement_timeout', '0', false) <> '') from {table}",
        second="select current_setting('statement_timeout') = '0' from {table} limit 1",
        third="select pg_advisory_lock(1) is null from {table} limit 1",
        # Of the schema's own lock, which the run goes on to hold.
        fourth="select pg_advisory_unlock_all() is null from {table} limit 1",
        fifth="select count(*) = 1 from pg_locks, (select from {table} limit 1) as one"
        " where locktype = 'advisory' and granted and pid <> pg_backend_pid()",
    )
    assert "sql.first" not in said
    assert "sql.fifth" not in said
    assert "sql.second: expected true, found false" in said
    assert world.rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_what_a_query_makes_of_rows_is_not_said(world: World) -> None:
    world.at_source(*STAFF)
    said = refused(
        world,
        cast="select bool_and(badge::int > 0) from {table}",
        named="select bool_and(badge::regclass is null) from {table}",
        made="select bool_and(query_to_xml(badge, true, true, '') is null) from {table}",
    )
    assert "sql.cast: expected true, found an error: invalid text representation (22P02)" in said
    assert "AB-" not in said
    told = world.rows("SELECT error FROM ops.tables UNION ALL SELECT found FROM ops.checks")
    assert "AB-" not in str(told)


def test_the_login_must_be_there_and_have_no_rights_but_a_readers(world: World) -> None:
    world.at_source(*STAFF)
    text = rule(mine="select true from {table} limit 1")
    job = world.job(text)
    undefined = replace(
        job,
        resolve=lambda name: (
            connections.from_environment(name)
            if name == "warehouse_checks"
            else world.resolve(name)
        ),
    )
    with pytest.raises(UnknownConnectionError, match="AIRFLOW_CONN_WAREHOUSE_CHECKS"):
        run.run(undefined)
    assert world.rows("SELECT to_regclass('raw_hr_staging.staff')") == [(None,)]  # nothing was read
    with pytest.raises(Failure, match="with the rights of ingest_loader"):
        world.run(text, head="checks_login: warehouse\n")
    with pytest.raises(Failure, match=r"with the rights of .*pg_signal_backend"):
        replace(world, checks=world.warehouse_admin).run(text)
    world.run(text)


def peak() -> int:
    """Return the most memory that this process had since it was last asked, in MB."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def test_an_endless_answer_takes_no_memory(world: World) -> None:
    world.at_source(*STAFF)
    peak()
    before = peak()
    said = refused(
        world,
        long="select true from {table} a, {table} b, {table} c",
        wide="select repeat('x', 100000000) from {table} limit 1",
    )
    assert said.count("found not one row of one true or false") == 2
    assert peak() - before < 30


def test_a_query_may_end_as_statements_do(world: World) -> None:
    world.at_source(*STAFF)
    world.run(
        rule(
            semicolon="select count(*) > 1 from {table} ; ",
            comment="select count(*) > 1 from {table} -- all",
            union="with a as (table {table}) select true from a union select true from a",
        )
    )
    assert world.rows("SELECT count(*), bool_and(passed) FROM ops.checks") == [(4, True)]

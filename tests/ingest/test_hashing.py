"""Hashed columns: what they are, and where their key is not."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from ingest import connections, hashing, run
from ingest.connections import Entry
from ingest.errors import UnknownConnectionError
from ingest.job import Job
from tests.ingest.pooler import pooler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer
    from tests.ingest.world import World

PEOPLE = (
    "CREATE TABLE people (id int PRIMARY KEY, national_id text, secret text)",
    "INSERT INTO people SELECT n, CASE WHEN n > 1 THEN 'GHA-' || n END, 's'"
    " FROM generate_series(1, 20) n",
)  # fmt: skip
HASHED = "name: public.people\n    columns: {exclude: [secret], hash: [national_id]}"


def own_key(shared: str, source: str = "hr") -> bytes:
    label = f"harmattan: key of source {source}"
    return hmac.new(shared.encode(), label.encode(), hashlib.sha256).digest()


def test_columns_leave_as_hashes_under_a_key_of_their_source_or_not_at_all(world: World) -> None:
    world.at_source(*PEOPLE)
    world.run(HASHED)
    key = own_key(world.hash_key)
    expected = {
        n: hmac.new(key, f"GHA-{n}".encode(), hashlib.sha256).hexdigest() if n > 1 else None
        for n in range(1, 21)
    }
    assert dict(world.rows("SELECT id, national_id FROM raw_hr.people")) == expected
    assert world.rows("SELECT to_jsonb(p) ? 'secret' FROM raw_hr.people p LIMIT 1") == [(False,)]


def test_equal_values_have_one_hash(world: World) -> None:
    world.at_source(
        "CREATE EXTENSION citext SCHEMA public",
        "CREATE DOMAIN mail AS citext",
        "CREATE TABLE t (id int, n numeric, f float8, c citext, d mail, p char(9))",
        "INSERT INTO t VALUES (1, 5, 0, 'Ada', 'A@b', 'x'), (2, 5.00, '-0', 'ADA', 'a@B', 'x  ')",
    )
    world.run("name: public.t\n    columns: {hash: [n, f, c, d, p]}")
    counts = ", ".join(f"count(DISTINCT {column})" for column in "nfcdp")
    assert world.rows(f"SELECT {counts} FROM raw_hr.t") == [(1, 1, 1, 1, 1)]


@pytest.fixture
def all_logged(world: World) -> Iterator[None]:
    verbose = {"log_statement": "all", "log_connections": "on", "log_min_messages": "debug1",
               "log_min_duration_statement": "0", "log_parameter_max_length": "-1"}  # fmt: skip
    with psycopg.connect(world.source_admin, autocommit=True) as connection:
        for name, value in verbose.items():
            setting = sql.SQL("ALTER SYSTEM SET {} = {}").format(sql.Identifier(name), value)
            connection.execute(setting)
        connection.execute("SELECT pg_reload_conf()")
        yield
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")


@pytest.mark.usefixtures("all_logged")
def test_the_key_is_in_no_log_of_server_or_pooler(world: World, postgres: PostgresServer) -> None:
    world.at_source(*PEOPLE)
    with pooler(world.source, "transaction") as between:

        def resolve(connection_id: str) -> Entry:
            if connection_id == "hr":
                return Entry("hr", "postgresql", between.uri(world.source))
            return world.resolve(connection_id)

        run.run(Job(world.pipeline(HASHED), "hr", "one", resolve))
        said = between.log.read_text() + postgres.log.read_text()
    assert "COPY (SELECT" in said
    assert "DETAIL:  parameters: $1 = " in said
    block = own_key(world.hash_key).ljust(64, b"\0")
    pads = (bytes(byte ^ pad for byte in block).hex() for pad in (0x36, 0x5C))
    for secret in (world.hash_key, block.hex(), *pads):
        assert secret[:24] not in said
    assert len(world.rows("SELECT FROM raw_hr.people WHERE length(national_id) = 64")) == 19


def test_another_key_means_a_full_load(world: World) -> None:
    world.at_source(*PEOPLE)
    text = HASHED + "\n    load: incremental"
    world.run(text)
    assert world.run(text).loaded[0].load == "incremental"
    other = type(world)(**{**world.__dict__, "hash_key": "another key of the hashes"})
    (loaded,) = other.run(text).loaded
    assert (loaded.load, "a hash under key" in loaded.reason) == ("full", True)


def test_a_key_is_never_shown_and_must_be_long_enough() -> None:
    entry = Entry("hash_key", "generic", parts={"password": "k" * 16})
    found = hashing.key(entry, "hr")
    assert repr(found) == f"HashKey(mark='{found.mark}')"
    assert len(found.mark) == 8
    others = [
        hashing.key(entry, "school"),
        hashing.key(Entry("hash_key", "generic", uri="generic://:" + "q" * 16 + "@h"), "hr"),
    ]
    assert len({found.mark, *(each.mark for each in others)}) == 3
    with pytest.raises(UnknownConnectionError, match=r"at least 16 characters .* found 3"):
        hashing.key(connections.Entry("hash_key", "generic", parts={"password": "abc"}), "hr")

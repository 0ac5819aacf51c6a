"""Locks that are tried in short turns."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from ingest import turns

if TYPE_CHECKING:
    from tests.conftest import PostgresServer


def test_pauses_grow_up_to_the_longest_and_the_last_turn_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]

    def rest(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    pauses: list[float] = []
    monkeypatch.setattr(turns, "monotonic", lambda: clock[0])
    assert [*turns.turns(100, rest)] == [False] * 7 + [True]
    assert pauses == [1, 2, 4, 8, 16, 30, 30]
    assert [*turns.turns(0, rest)] == [True]


def test_all_locks_of_a_turn_share_its_time(postgres: PostgresServer) -> None:
    uri = postgres.create_database()
    with psycopg.connect(uri) as connection, psycopg.connect(uri, autocommit=True) as holder:
        for name in ("a", "b", "c"):
            holder.execute(sql.SQL("CREATE TABLE {} ()").format(sql.Identifier(name)))
        holder.execute("BEGIN; LOCK TABLE c")
        began = monotonic()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            turn = turns.Turn(connection)
            turn.lock(sql.SQL("LOCK TABLE a; SELECT pg_sleep(0.45)"), sql.SQL("LOCK TABLE b"))
            turn.lock(sql.SQL("LOCK TABLE c"))
        assert turns.TURN <= monotonic() - began < turns.TURN + 0.4

"""What a refusal of a server means, on either side, and what passes by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingest import reading
from ingest.causes import CAUSES, cause
from ingest.errors import RunFailedError, from_postgres

if TYPE_CHECKING:
    from tests.ingest.world import World


@pytest.mark.parametrize(
    ("state", "side", "words", "transient"),
    [
        ("22021", "source hr", "Bytes of a value are no text in the source's encoding", False),
        ("22P02", "source hr", "The source cannot read a value", False),
        ("22P02", "warehouse", "A value does not fit its type in the warehouse", False),
        ("40001", "source hr", "hot_standby_feedback = on", True),
        ("40001", "warehouse", "Another session was in the way", True),
        ("53200", "source hr", "max_locks_per_transaction", False),
        ("54000", "source hr", "larger than the 1 GB", False),
        ("25006", "source hr", "writes, as a view that calls nextval does", False),
        ("25006", "warehouse", "perhaps a standby", False),
        ("P0001", "source hr", "what a view makes of it", False),
        ("P0001", "warehouse", "A trigger or an event trigger", False),
        ("42703", "source hr", "It went away during the run", False),
        ("42703", "warehouse", "is not what ingest gave it", False),
        ("42P07", "warehouse", "perhaps an index of a table that was renamed", False),
        ("08P01", "source hr", "pool_mode must be transaction or session", False),
        ("08006", "source hr", "Run again when the server is back", True),
        ("57P04", "source hr", "The database was dropped", False),
        ("57P01", "source hr", "Run again when the server is back", True),
        (None, "warehouse", "Run again when the server is back", True),
        ("99999", "source hr", "The server's log has more about it", False),
    ],
)
def test_a_way_out_is_of_its_side(
    state: str | None, side: str, words: str, transient: bool
) -> None:
    found = cause(state, lost=True)
    assert words in found.hint(side)
    assert found.transient is transient


def test_what_no_server_said_is_no_lost_connection() -> None:
    told = from_postgres(psycopg.DataError("a NUL in text"), side="source hr", table="t")
    assert not told.transient
    assert from_postgres(psycopg.OperationalError("gone"), side="source hr", table="t").transient


def test_every_cause_has_sentences_and_none_is_behind_a_shorter_one() -> None:
    for place, each in enumerate(CAUSES):
        assert each.source.endswith(".")
        assert each.warehouse.endswith(".")
        for state in each.states:
            assert cause(state) is each, (place, state)


def test_what_the_source_says_has_its_way_out_and_blames_its_own_table(world: World) -> None:
    world.at_source(
        "CREATE TABLE one (id int)", "INSERT INTO one VALUES (0)",
        "CREATE SEQUENCE s", "GRANT USAGE ON s TO ingest_reader",
        "CREATE VIEW writes AS SELECT nextval('s') AS n",
        "CREATE VIEW odd AS SELECT 1 / id FROM one",
    )  # fmt: skip
    with pytest.raises(RunFailedError) as failure:
        world.run("public.one", "public.writes", "public.odd")
    lines = str(failure.value).splitlines()
    assert lines[0] == "pipeline hr: expected 3 tables published, found 2 not:"
    assert lines[1].startswith("source hr: table public.odd: expected it to be read, found: ")
    assert lines[2].startswith("  The source cannot read a value")
    assert lines[3].startswith("source hr: table public.writes: ")
    assert "nextval" in lines[4]
    assert lines[5] == "HINT: Each has its way out above; then run again."


def test_postgresqls_own_hint_is_carried(world: World) -> None:
    world.at_source("CREATE MATERIALIZED VIEW kept AS SELECT 1 AS id WITH NO DATA")
    with pytest.raises(RunFailedError, match='"kept" has not been populated') as failure:
        world.run("public.kept")
    assert failure.value.hint.endswith(
        "PostgreSQL says: Use the REFRESH MATERIALIZED VIEW command."
    )


def test_a_table_that_is_too_wide_fails_by_itself_and_at_its_limit_it_arrives(world: World) -> None:
    columns = ", ".join(f"c{n} int DEFAULT {n}" for n in range(2, 1601))
    texts = ", ".join(f"c{n} text" for n in range(2, 1601))
    world.at_source(
        f"CREATE TABLE full_up (id int PRIMARY KEY, {columns})",
        f"CREATE TABLE hashes (id int PRIMARY KEY, {texts})", "CREATE TABLE small (id int)",
        "INSERT INTO full_up (id) VALUES (1), (2)", "INSERT INTO small VALUES (1)",
        f"INSERT INTO hashes SELECT {', '.join(map(str, range(1, 1601)))}",
    )  # fmt: skip
    hashed = ", ".join(f"c{n}" for n in range(2, 1601))
    with pytest.raises(RunFailedError, match="expected 3 tables published, found 2 not") as failure:
        world.run("name: public.full_up\n    deletes: mark", "public.small",
                  f"name: public.hashes\n    columns: {{hash: [{hashed}]}}")  # fmt: skip
    lines = failure.value.message.splitlines()
    assert lines[1:4:2] == [
        "warehouse: table raw_hr.full_up: expected it to be written, found: tables can have at most"
        " 1600 columns",
        "warehouse: table raw_hr.hashes: expected it to be written, found: row is too big:"
        " size 28816, maximum size 8160",
    ]
    assert "deletes: mark adds one" in lines[2]
    assert "8 kB of a page" in lines[4]
    assert world.rows("SELECT * FROM raw_hr.small") == [(1,)]
    world.run("public.full_up", "public.hashes")
    world.assert_same("public.full_up", "raw_hr.full_up")
    world.assert_same("public.hashes", "raw_hr.hashes")


BIG = "CREATE TABLE one AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)"


def end_readers(world: World, left: list[int]) -> Any:
    """Return what ends the source's sessions as many times as ``left`` says when rows come."""

    def progress(_table: str, _size: int) -> None:
        if left and left.pop():
            with psycopg.connect(world.source_admin) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE usename = 'ingest_reader'"
                )

    return progress


@pytest.mark.parametrize("head", ["", "publish: together\n"])
def test_what_passes_is_tried_again_by_the_command(
    world: World, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.1, 0.1))
    world.at_source(
        BIG, "CREATE TABLE two (id int)", "INSERT INTO two VALUES (1)",
    )  # fmt: skip
    report = world.run(head=head, progress=end_readers(world, [1]), jobs=1)
    assert {each.table: each.rows for each in report.loaded} == {
        "raw_hr.one": 20000,
        "raw_hr.two": 1,
    }
    assert world.rows("SELECT DISTINCT status FROM ops.tables") == [("published",)]
    assert world.rows("SELECT status, error FROM ops.runs") == [("success", None)]


def test_what_does_not_pass_is_tried_no_more_than_thrice(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.1, 0.1))
    world.at_source(BIG)
    with pytest.raises(RunFailedError):
        world.run(progress=end_readers(world, [1] * 1000), jobs=1)
    assert sum("tried again in" in record.getMessage() for record in caplog.records) == 2

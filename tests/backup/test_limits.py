"""Servers that take connections and never answer: a command ends within its time all the same."""

from __future__ import annotations

import json
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from typer.testing import CliRunner

from backup.__main__ import app
from frame.failure import ExitCode
from tests.backup.conftest import add_megabytes, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.backup.conftest import House
    from tests.forked import Forked

LATE = 2.0  # seconds behind its limit that a command may end
START = 20.0  # seconds more on a busy machine; what hangs does so for ever
FOR_EVER = 10_000  # calls


@contextmanager
def deaf() -> Iterator[int]:
    """Listen on a port, whose connections the system takes and nobody answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def ended(house: House, *line: str, seconds: int, **environment: str) -> tuple[int, str]:
    """Run a command with its limit; return its exit code and what it said on standard error."""
    return end(house.fork(*line, "--timeout", f"{seconds}s", **environment), seconds)


def end(run: Forked, seconds: float) -> tuple[int, str]:
    """Return how a command ended, which began just now and has so much time."""
    began = time.monotonic()
    _, told = run.communicate(timeout=seconds + 60)
    assert time.monotonic() - began < seconds + LATE + START, told
    return run.returncode, told


def met(house: House) -> bool:
    """Tell whether a call has met the first fault."""
    return bool(house.endpoint.faults_left()[0]["left"] < FOR_EVER)


@pytest.fixture
def slow(house: House) -> Iterator[House]:
    """A house whose dump needs several parts; the faults of its endpoint go with the test."""
    add_megabytes(house.source, 12)
    yield house
    house.endpoint.set_faults()


@pytest.fixture
def calm(backed_up: House) -> Iterator[House]:
    yield backed_up
    backed_up.endpoint.set_faults()


def commands(group: Any, *words: str) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        yield *words, command.name or command.callback.__name__
    for each in group.registered_groups:
        yield from commands(each.typer_instance, *words, each.name or each.typer_instance.info.name)


@pytest.mark.parametrize("words", sorted(commands(app)), ids=" ".join)
def test_every_verb_has_a_limit(words: tuple[str, ...]) -> None:
    """But for the drill's server, which runs until it is stopped."""
    told = CliRunner().invoke(app, [*words, "--help"]).output
    assert ("--timeout" in told) == (words != ("scratch-server",))


# What each command that needs B2 asks for first, with what it needs to come so far.
LINES = (
    "list", "show 20260101T000000Z-00000000", "restore hr --to /never", "run hr", "monthly",
    "lifecycle show",
)  # fmt: skip


def test_a_b2_that_takes_calls_and_never_answers_is_named(calm: House) -> None:
    with deaf() as port:
        realm = f"http://127.0.0.1:{port}"
        runs = {
            line: calm.fork(*line.split(), "--timeout", "3s", BACKUP_B2_REALM=realm)
            for line in LINES
        }
        ends = {line: end(run, 3 + len(LINES)) for line, run in runs.items()}
    words = "time limit of 3 s is over while waiting for B2 (b2_authorize_account, 1st try)"
    for line, (code, told) in ends.items():
        assert code == 1, line
        assert f"error: {words}" in told, "in the message"
        assert f"why='{words}'" in told, "and in the log"


@pytest.mark.parametrize("call", ["list_file_versions", "download_file_by_id"])
def test_a_call_of_a_session_that_hangs_is_named(calm: House, call: str) -> None:
    (backup,) = json.loads(calm.run("list", "--json").stdout)
    calm.endpoint.set_faults({"operation": call, "kind": "hang", "count": FOR_EVER})
    code, told = ended(calm, "verify", backup["id"], seconds=3)
    assert code == 1
    assert f"is over while waiting for B2 (b2_{call}, 1st try)" in told


def test_a_download_that_stops_in_mid_answer_is_named(calm: House) -> None:
    (backup,) = json.loads(calm.run("list", "--json").stdout)
    calm.endpoint.set_faults(
        {"operation": "download", "kind": "hang_mid_body", "after": 2, "count": FOR_EVER}
    )
    code, told = ended(calm, "verify", backup["id"], seconds=3)
    assert code == 1
    assert "is over while waiting for B2 (b2_download_file_by_id, 1st try)" in told


# One before there is anything, one of the threads of parts, one with all parts there.
@pytest.mark.parametrize("call", ["start_large_file", "upload_part", "finish_large_file"])
def test_an_upload_that_hangs_leaves_nothing(slow: House, call: str) -> None:
    slow.endpoint.set_faults({"operation": call, "kind": "hang", "count": FOR_EVER})
    code, told = ended(slow, "run", "hr", seconds=6)
    assert code == 1
    assert f"is over while waiting for B2 (b2_{call}, 1st try)" in told
    slow.endpoint.set_faults()
    assert (slow.names(), slow.unfinished()) == ([], [])


def test_sessions_on_the_source_are_closed_before_b2_is_waited_for(slow: House) -> None:
    slow.endpoint.set_faults(
        {"operation": "upload_part", "kind": "hang", "count": FOR_EVER},
        {"operation": "list_unfinished_large_files", "kind": "hang", "after": 1, "count": FOR_EVER},
    )
    with psycopg.connect(slow.source, autocommit=True) as watching:
        run = slow.fork("run", "hr", "--timeout", "8s")
        eventually(lambda: met(slow), 60)
        assert sessions(watching)
        eventually(lambda: not sessions(watching), 30)
        closed = time.monotonic()
        _, told = run.communicate(timeout=20)
    assert run.returncode == 1
    assert time.monotonic() - closed > 1, "it then waited for B2"
    assert "given up after" in told
    assert "while waiting for B2 (b2_list_unfinished_large_files, 1st try)" in told
    assert "is over while waiting for B2 (b2_upload_part, 1st try)" in told


def sessions(connection: psycopg.Connection[Any]) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'harmattan-backup%'"
    (row,) = connection.execute(query).fetchall()
    return int(row[0])


def test_a_source_that_takes_connections_and_never_answers_is_named(house: House) -> None:
    with deaf() as port:
        name = house.source.rpartition("/")[2]
        house.secret("database_uri", f"postgresql://u:p@127.0.0.1:{port}/{name}")
        code, told = ended(house, "run", "hr", seconds=3)
    assert code == 1
    assert f"is over while waiting for PostgreSQL (connection to database {name})" in told


def test_a_target_that_takes_connections_and_never_answers_is_named(calm: House) -> None:
    with deaf() as port:
        uri = f"postgresql://u:p@127.0.0.1:{port}/d"
        code, told = ended(calm, "restore", "hr", "--into-env", "TARGET", seconds=5, TARGET=uri)
    assert code == 1
    assert "is over while waiting for PostgreSQL (connection to database " in told


def leftover(house: House) -> None:
    services = house.bucket.api.services.large_file
    services.start_large_file(house.bucket.id_, "local/daily/hr/left.dump.zst.gpg", "text/plain")


@pytest.mark.parametrize("call", ["list_unfinished_large_files", "cancel_large_file"])
def test_a_stop_while_leftovers_are_cancelled_ends_the_command(slow: House, call: str) -> None:
    leftover(slow)
    slow.endpoint.set_faults({"operation": call, "kind": "hang", "count": FOR_EVER})
    run = slow.fork("run", "hr")
    eventually(lambda: met(slow), 60)
    began = time.monotonic()
    run.terminate()
    _, told = run.communicate(timeout=20)
    assert run.returncode == ExitCode.TERMINATED
    assert time.monotonic() - began < LATE + START
    assert "backup started" not in told
    slow.endpoint.set_faults()
    assert slow.names() == []


def test_leftovers_that_cannot_be_cancelled_prevent_no_backup(slow: House) -> None:
    leftover(slow)
    slow.endpoint.set_faults({"operation": "cancel_large_file", "kind": "status", "status": 403})
    run = slow.run("run", "hr")
    assert run.returncode == 0, run.stderr
    assert "large file not cancelled" in run.stderr
    assert slow.run("run", "hr").returncode == 0
    assert slow.unfinished() == [], "the next run cancels it"


def test_a_drill_that_is_out_of_time_keeps_its_report(calm: House) -> None:
    calm.use_key("listFiles", "readFiles", "writeFiles")
    calm.endpoint.set_faults({"operation": "download", "kind": "hang", "after": 2})
    began = time.monotonic()
    drill = calm.run("drill", "hr", "--timeout", "9s", "--json", unprivileged=True)
    assert time.monotonic() - began < 9 + LATE + START
    assert drill.returncode == 1
    assert drill.stdout, drill.stderr
    (result,) = json.loads(drill.stdout)["databases"]
    words = "time limit of 9 s is over while waiting for B2 (b2_download_file_by_id, 1st try)"
    assert (result["verdict"], result["findings"]) == ("failed", [words])
    calm.endpoint.set_faults()
    assert [name for name in calm.names() if name.startswith("local/drills/")]


def stopped(run: Forked) -> tuple[int, str]:
    run.terminate()
    _, told = run.communicate(timeout=60)
    return run.returncode, told


def test_a_drill_that_is_stopped_keeps_its_report_and_ends_so(calm: House) -> None:
    calm.use_key("listFiles", "readFiles", "writeFiles")
    calm.endpoint.set_faults({"operation": "download", "kind": "hang", "after": 2})
    run = calm.fork("drill", "hr")
    eventually(lambda: not calm.endpoint.faults_left(), 60)
    code, told = stopped(run)
    assert code == ExitCode.TERMINATED, told
    calm.endpoint.set_faults()
    assert [name for name in calm.names() if name.startswith("local/drills/")]

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from backup.pipeline import ChildFailed, Pipeline, Stage, last_words, run_tool

if TYPE_CHECKING:
    from pathlib import Path

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def shell(script: str) -> Stage:
    return Stage(["sh", "-c", script], ENVIRONMENT)


def test_the_stream_is_what_the_last_child_writes() -> None:
    with Pipeline([shell("seq 100000"), shell("tac")], hint="") as pipeline:
        assert pipeline.read_all().split() == [b"%d" % n for n in range(100_000, 0, -1)]


@pytest.mark.parametrize(
    ("scripts", "told"),
    [
        (["echo half; exit 3", "cat", "cat"], "sh ended with 3"),
        (["echo half; kill -9 $$", "cat", "cat"], "was ended by SIGKILL"),
        (["seq 9", "cat; echo lost >&2; exit 1", "cat"], "ended with 1: lost"),
        (["seq 9", "cat", "cat; exit 2"], "ended with 2"),
        (["seq 9", "exec >&-; sleep 0.2; exit 7"], "ended with 7"),
    ],
)
def test_a_child_that_fails_is_told_instead_of_the_end(scripts: list[str], told: str) -> None:
    with (
        Pipeline([shell(script) for script in scripts], hint="") as pipeline,
        pytest.raises(ChildFailed, match=told),
    ):
        pipeline.read_all()


def alive(groups: list[int]) -> list[psutil.Process]:
    """Return the processes of these groups; one that is dead and not yet reaped is none."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) in groups and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_an_error_kills_every_child_and_what_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.pipeline.TERM_SECONDS", 0.2)
    with (
        pytest.raises(RuntimeError),
        Pipeline([shell("trap '' TERM; sleep 60 & sleep 60"), shell("cat")], hint="") as chain,
    ):
        groups = [child.pid for child in chain.children]
        raise RuntimeError
    until = time.monotonic() + 20
    while alive(groups):
        assert time.monotonic() < until, alive(groups)
        time.sleep(0.05)


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ChildFailed, match="/nowhere/pg_dump cannot be started"):
        run_tool(["/nowhere/pg_dump"], ENVIRONMENT)


def test_a_chain_into_a_file_ends_when_the_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("wb") as sink, Pipeline([shell("seq 3")], sink=sink, hint="") as pipeline:
        pipeline.finish()
    assert path.read_text() == "1\n2\n3\n"


def test_values_of_rows_are_left_out_of_messages() -> None:
    text = "pg_restore: error: duplicate key\nDETAIL:  Key (name)=(Ama) exists.\nCONTEXT:  COPY Ama"
    assert last_words(text) == "pg_restore: error: duplicate key"


def test_the_last_words_begin_with_the_error_and_show_no_statement() -> None:
    text = """pg_dump: error: query failed: ERROR:  out of shared memory
LINE 1: INSERT INTO people VALUES ('Kofi')
                                   ^
HINT:  You might need to increase max_locks_per_transaction.
pg_dump: detail: Query was: SELECT 1
pg_dump: hint: it is long"""
    assert last_words(text) == (
        "pg_dump: error: query failed: ERROR:  out of shared memory"
        " / pg_dump: detail: Query was: SELECT 1 / pg_dump: hint: it is long"
    )


def test_reading_takes_no_more_memory_than_a_pipe() -> None:
    script = "import sys; [sys.stdout.buffer.write(bytes(1 << 20)) for _ in range(64)]"
    with Pipeline([Stage([sys.executable, "-c", script], ENVIRONMENT)], hint="") as pipeline:
        block, total = memoryview(bytearray(1 << 20)), 0
        while count := pipeline.readinto(block):
            total += count
    assert total == 64 << 20


def test_what_the_first_child_gives_the_second_is_counted() -> None:
    chain = [shell("seq 300000"), shell("cat"), shell("wc -c")]
    with Pipeline(chain, metered=True, hint="") as pipeline:
        assert int(pipeline.read_all()) == pipeline.plain_size == 1_988_895


@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        (["echo half; exit 3", "cat", "cat"], "sh ended with 3"),
        (["seq 300000; kill -9 $$", "cat", "cat"], "was ended by SIGKILL"),
        (["yes", "head -c 9; exit 1", "cat"], "ended with 1"),
        # The second is content with less than there was, and the first does not notice.
        (["trap '' PIPE; seq 300000 2>&-; exit 0", "head -n 1", "cat"], "sh was cut short"),
    ],
)
def test_a_metered_chain_tells_what_failed_as_well(scripts: list[str], said: str) -> None:
    with (
        Pipeline([shell(script) for script in scripts], metered=True, hint="") as pipeline,
        pytest.raises(ChildFailed, match=said),
    ):
        pipeline.read_all()


def test_a_metered_chain_whose_next_program_is_missing_ends() -> None:
    chain = [shell("yes"), Stage(["/no/such/program"], ENVIRONMENT)]
    with (
        pytest.raises(ChildFailed, match="cannot be started"),
        Pipeline(chain, metered=True, hint=""),
    ):
        pass


def test_a_failed_chain_names_its_programs() -> None:
    with (
        Pipeline([shell("exit 1"), Stage(["cat"], ENVIRONMENT)], hint="") as pipeline,
        pytest.raises(ChildFailed) as caught,
    ):
        pipeline.read_all()
    assert caught.value.programs == ("sh",)

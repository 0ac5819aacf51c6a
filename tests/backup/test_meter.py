from __future__ import annotations

from typing import IO

import pytest

from backup.pipeline import Pipeline, Stage

SIZE = 3_000_000
WORDS = Stage(["sh", "-c", f"yes words | head -c {SIZE}"], {"PATH": "/usr/bin:/bin"})
PASS = Stage(["cat"], {"PATH": "/usr/bin:/bin"})
WHOLE = (b"words\n" * SIZE)[:SIZE]


@pytest.mark.parametrize("count", [0, 5, 100_000, SIZE, SIZE + 1])
def test_what_was_looked_at_goes_on_and_is_counted(count: int) -> None:
    seen = b""

    def look(stream: IO[bytes]) -> None:
        nonlocal seen
        seen = stream.read(count)

    with Pipeline([WORDS, PASS], metered=True, look=look, hint="") as pipeline:
        passed = pipeline.read_all()
    assert (passed, pipeline.plain_size) == (WHOLE, SIZE)
    assert seen == WHOLE[:count]


@pytest.mark.parametrize("error", [ValueError("no head"), OSError("no server")])
def test_a_look_that_fails_leaves_the_stream_whole(error: Exception) -> None:
    def look(stream: IO[bytes]) -> None:
        stream.read(100)
        raise error

    with Pipeline([WORDS, PASS], metered=True, look=look, hint="") as pipeline:
        assert pipeline.read_all() == WHOLE


def test_a_look_at_a_chain_that_ends_early_ends_too() -> None:
    with (
        pytest.raises(Exception, match="cat was ended by SIGTERM"),
        Pipeline([WORDS, PASS], metered=True, look=read_all, hint="") as pipeline,
    ):
        pipeline.children[1].terminate()
        pipeline.read_all()


def read_all(stream: IO[bytes]) -> None:
    while stream.read(1000):
        pass

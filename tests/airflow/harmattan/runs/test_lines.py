"""Lines of a log that comes in pieces, and the summary at its end."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harmattan.runs.end import End
from harmattan.runs.lines import LONGEST, Lines, summary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer


def read(pieces: list[bytes], taken: int = 0) -> tuple[list[str], Lines]:
    lines = Lines(taken)
    return [line for piece in pieces for line in lines.feed(piece)], lines


def cut(text: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(borders)]


TEXT = st.text(alphabet="aé\n\r", max_size=60).map(str.encode)
PLACES = st.lists(st.integers(0, 1000), max_size=8)


@given(TEXT, PLACES)
def test_lines_do_not_depend_on_the_pieces(text: bytes, places: list[int]) -> None:
    shown, lines = read(cut(text, places))
    whole = text.decode().split("\n")
    assert [*shown, *lines.end()] == [line.rstrip("\r") for line in whole[:-1]] + (
        [whole[-1].rstrip("\r")] if whole[-1] else []
    )


@given(TEXT, st.integers(0, 60), PLACES)
def test_who_begins_again_reads_each_line_once(text: bytes, lost: int, places: list[int]) -> None:
    first, before = read(cut(text[:lost], places))
    second, after = read(cut(text[before.taken :], places), before.taken)
    assert [*first, *second, *after.end()] == [*read([text])[0], *read([text])[1].end()]


@pytest.mark.parametrize("size", [LONGEST - 1, LONGEST, LONGEST + 1, 5 * LONGEST])
@pytest.mark.parametrize("piece", [1000, LONGEST, 10 * LONGEST])
def test_a_long_line_is_shown_in_part_and_counted_whole(size: int, piece: int) -> None:
    text = b"x" * size + b"\nnext\n"
    shown, lines = read([text[at : at + piece] for at in range(0, len(text), piece)])
    assert shown == ["x" * min(size, LONGEST) + (" …" if size > LONGEST else ""), "next"]
    assert lines.taken == lines.offset == len(text)


@given(TEXT, PLACES)
def test_the_next_piece_begins_where_the_last_ended(text: bytes, places: list[int]) -> None:
    lines = Lines(7)
    for piece in cut(text, places):
        lines.feed(piece)
    assert lines.offset == 7 + len(text)


@pytest.mark.parametrize(
    ("tail", "found"),
    [
        (b'{"a": 1}\n', {"a": 1}),
        (b'{"a": 1}\nafter it\n', {"a": 1}),
        (b'{"a": 1}\n{"b": 2}', {"b": 2}),
        (b'{"a": 1}\n{"b": \n', {"a": 1}),
        (b'half a line"}\n{"a": 1}\n', {"a": 1}),
        (b"[1]\n12\nnull\n", None),
        (b"", None),
        (b'{"a": NaN}\n', None),
        (b'{"a": {"__classname__": "x", "__data__": {}}}\n', None),
        (b'{"a":' * 9000 + b"\n", None),
        (b'{"a": "' + b"x" * LONGEST + b'"}\n', None),
        (b'{"\xff": 1}\n', None),
    ],
    ids=["plain", "not last", "two", "broken", "half", "no object", "nothing", "no number",
         "Airflow's marks", "too deep", "too long", "no text"],
)  # fmt: skip
def test_the_last_line_that_is_an_object_is_the_summary(tail: bytes, found: object) -> None:
    assert summary(tail) == found


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)
INTEGERS = st.integers(-(2**63), 2**63 - 1)


@given(st.dictionaries(TEXTS, INTEGERS | TEXTS, max_size=4))
def test_every_object_that_a_program_prints_is_read(value: dict[str, object]) -> None:
    expected = None if any(name.startswith("__") for name in value) else value
    assert summary(b"begins here\n" + json.dumps(value).encode() + b"\n") == expected


PARTS = st.recursive(
    st.sampled_from(["null", "true", "1e999", "-1e999", "NaN", "1.5", "9" * 400, '"\\ud800"'])
    | st.integers().map(str)
    | st.text(max_size=5).map(json.dumps)
    | st.integers(0, 1500).map(lambda depth: "[" * depth + "]" * depth),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]")
        | st.dictionaries(st.text(max_size=3).map(json.dumps), inner, max_size=3).map(
            lambda parts: "{" + ",".join(f"{name}:{part}" for name, part in parts.items()) + "}"
        )
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def server(postgres: PostgresServer) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.uri(), autocommit=True) as connection:
        yield connection


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(part=PARTS)
@example(part='"\\u0000"')
@example(part='{"\\u0000": 1}')
@example(part='"\\\\u0000"')
@example(part="[" * 600 + "]" * 600)
def test_what_is_believed_goes_all_the_way_to_the_database(
    server: psycopg.Connection[Any], part: str
) -> None:
    """Whatever a job prints: what could not be carried there would end the triggerer each time."""
    end = End("done", summary=summary(f'{{"part": {part}}}'.encode()))
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(end.data()))
    assert End.read(sent) == end
    query = "SELECT %s::jsonb IS NOT NULL"
    assert server.execute(query, [json.dumps(end.summary)]).fetchone() == (True,)

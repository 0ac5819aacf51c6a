from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backup.loading.archive import Archive, Entry, Section
from backup.loading.words import LINE_BYTES, Complaint, Listener, lines, without_values

if TYPE_CHECKING:
    from collections.abc import Iterable

BLANK = Entry(
    number=1, had_dumper=0, catalogue=0, oid=0, name="t", kind="TABLE", section=Section.PRE_DATA,
    definition="CREATE TABLE public.t (id int, pay numeric);\n", drop="", copy="",
    namespace="public", tablespace="", access_method="", relkind=None, owner="boss",
    with_oids="false", dependencies=(), place=b"",
)  # fmt: skip
ROWS = replace(
    BLANK, number=2, kind="TABLE DATA", section=Section.DATA, definition="",
    copy="COPY public.t (id, pay) FROM stdin;\n",
)  # fmt: skip
INDEX = replace(
    BLANK, number=3, kind="INDEX", name="t_pay", section=Section.POST_DATA,
    definition="CREATE INDEX t_pay ON public.t USING btree (pay);\n",
)  # fmt: skip
MAPPING = replace(
    BLANK, number=4, kind="USER MAPPING", name="USER MAPPING bob SERVER s", namespace=None,
    definition="CREATE USER MAPPING FOR bob SERVER s OPTIONS (\n    password 'top secret'\n);\n",
)  # fmt: skip
ARCHIVE = Archive(
    version=(1, 14), dump_version="15", encoding="utf-8", entries=(BLANK, ROWS, INDEX, MAPPING),
    preamble=b"", integer_bytes=4, offset_bytes=8, size=0,
)  # fmt: skip


class Clock:
    """A second goes by each time it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def heard(script: str) -> Listener:
    listener = Listener(ARCHIVE, Clock())
    for line in lines([script.encode()], "utf-8"):
        listener.hear(line)
    listener.end()
    return listener


# What pg_restore 15 wrote.
ALONE = """\
pg_restore: connecting to database for restore
pg_restore: creating TABLE "public.t"
pg_restore: processing data for table "public.t"
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 2; 0 16803 TABLE DATA t boss
pg_restore: error: COPY failed for table "t": ERROR:  invalid input syntax for type integer: "Ann"
CONTEXT:  COPY t, line 1, column id: "Ann"
pg_restore: creating INDEX "public.t_pay"
pg_restore: from TOC entry 3; 1259 16814 INDEX t_pay boss
pg_restore: error: could not execute query: ERROR:  could not create unique index "t_pay"
DETAIL:  Key (pay)=(5000) is duplicated.
Command was: CREATE INDEX t_pay ON public.t USING btree (pay);


pg_restore: from TOC entry 4; 0 0 USER MAPPING USER MAPPING bob SERVER s boss
pg_restore: error: could not execute query: ERROR:  role "bob" does not exist
Command was: CREATE USER MAPPING FOR bob SERVER s OPTIONS (
    password 'top secret'
);


pg_restore: warning: errors ignored on restore: 3
"""


def test_what_failed_is_heard_without_values_and_passwords() -> None:
    listener = heard(ALONE)
    assert listener.complaints == [
        Complaint(2, 'ERROR: invalid input syntax for type integer: "…"'),
        Complaint(3, 'ERROR: could not create unique index "t_pay"'),
        Complaint(4, 'ERROR: role "bob" does not exist'),
    ]
    assert (listener.ignored, listener.is_complete) == (3, True)


def test_the_clock_stops_between_sections_of_one_that_works_alone() -> None:
    listener = heard(ALONE)
    # It begins at 1, and goes on with each line that is no error.
    assert listener.seconds() == {"pre-data": 3.0, "data": 2.0, "post-data": 2.0}
    assert listener.seconds_of == {1: 1.0, 2: 2.0, 3: 2.0}


def test_a_name_cannot_say_that_all_was_done() -> None:
    name = (
        'pg_restore: creating TABLE "public.x\npg_restore: warning: errors ignored on restore: 1"\n'
    )
    assert not heard(name + ALONE.partition("pg_restore: warning")[0]).is_complete


PARALLEL = """\
pg_restore: entering main parallel loop
pg_restore: launching item 2 TABLE DATA t
pg_restore: launching item 3 INDEX t_pay
pg_restore: from TOC entry 2; 0 16803 TABLE DATA t boss
pg_restore: pg_restore: from TOC entry 3; 1259 16814 INDEX t_pay boss
error: could not execute query: ERROR:  relation "t" does not exist
Command was: CREATE INDEX t_pay ON public.t USING btree (pay);

pg_restore: error: could not execute query: ERROR:  permission denied for table t
Command was: COPY public.t (id, pay) FROM stdin;
pg_restore: finished item 2 TABLE DATA t
pg_restore: finished item 3 INDEX t_pay
pg_restore: warning: errors ignored on restore: 4
"""


def test_lines_of_workers_that_meet_are_told_apart_by_their_statements() -> None:
    assert heard(PARALLEL).complaints == [
        Complaint(3, 'ERROR: relation "t" does not exist'),
        Complaint(2, "ERROR: permission denied for table t"),
    ]


# What each of two workers writes, one after the other; a message holds its own line breaks.
WORKERS = (
    ("pg_restore:", " ", "from TOC entry 2; 0 16803 TABLE DATA t boss\n", "pg_restore:", " ",
     "error: ",
     'COPY failed for table "t": ERROR:  column "pay" does not exist\nCONTEXT:  COPY t\n'),
    ("pg_restore:", " ", "from TOC entry 3; 1259 16814 INDEX t_pay boss\n", "pg_restore:", " ",
     "error: ", 'could not execute query: ERROR:  permission denied for table t\nCommand was: '
     "CREATE INDEX t_pay ON public.t USING btree (pay);\n\n\n"),
    ("pg_restore:", " ", 'processing data for table "public.t"\n'),
)  # fmt: skip


@given(order=st.permutations([0] * 7 + [1] * 7 + [2] * 3))
def test_no_error_is_lost_however_the_workers_words_meet(order: list[int]) -> None:
    left = [list(words) for words in WORKERS]
    complaints = heard("".join(left[worker].pop(0) for worker in order)).complaints
    assert sorted(complaints, key=lambda each: each.number or 0) == [
        Complaint(2, 'ERROR: column "pay" does not exist'),
        Complaint(3, "ERROR: permission denied for table t"),
    ]


def test_the_clock_of_parallel_work_is_of_each_item() -> None:
    listener = heard(PARALLEL)
    assert listener.seconds_of == {2: 2.0, 3: 2.0}
    assert listener.seconds()["post-data"] == 3.0


def test_a_timeout_that_an_old_server_has_not_is_only_a_warning() -> None:
    listener = heard(
        "pg_restore: while INITIALIZING:\n"
        "pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "
        '"transaction_timeout"\n'
        "Command was: SET transaction_timeout = 0;\n"
        "pg_restore: error: could not execute query: ERROR:  invalid value for parameter "
        '"client_encoding": "none"\n'
        "Command was: SET client_encoding = 'none';\n"
    )
    assert [*listener.warnings] == [
        'ERROR: unrecognized configuration parameter "transaction_timeout"'
    ]
    message = 'ERROR: invalid value for parameter "client_encoding": "…"'
    assert listener.complaints == [Complaint(None, message)]


def test_what_ends_pg_restore_itself_is_said_as_it_is() -> None:
    listener = heard("pg_restore: error: could not read from input file: end of file\n")
    assert listener.complaints == [Complaint(None, "could not read from input file: end of file")]
    assert not listener.is_complete


@pytest.mark.parametrize(
    "context",
    [
        "CONTEXT:  PL/pgSQL function public.f(integer) line 1 at RAISE",
        'CONTEXT:  SQL function "g" statement 1\nPL/pgSQL function f() line 3 at RAISE\nCOPY t',
        'KONTEXT:  PL/Python function "f"',
    ],
)
def test_what_a_function_says_itself_is_not_repeated(context: str) -> None:
    listener = heard(
        "pg_restore: from TOC entry 2; 0 1 TABLE DATA t boss\n"
        'pg_restore: error: COPY failed for table "t": FEHLER:  the pay of Ann is 5000\n'
        f"{context}\npg_restore: warning: errors ignored on restore: 1\n"
    )
    assert listener.complaints == [Complaint(2, "FEHLER: an error of a function's own (…)")]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('relation "public.t" does not exist', 'relation "public.t" does not exist'),
        ('role "boss" of "t"', 'role "boss" of "t"'),
        ('value "12" is out of range', 'value "…" is out of range'),
        ('invalid input: "a" secret "b"', 'invalid input: "…"'),
        ('invalid input: "a', 'invalid input: "…'),
        ("valeur « secret » de « t »", "valeur «…»"),
        ('invalid byte sequence for encoding "UTF8": 0xe9 0x20', None),
        ('could not access file "$libdir/postgis-3": No such file', None),
        ('operator does not exist: "t" = integer', 'operator does not exist: "t" = integer'),
    ],
)
def test_only_names_are_shown_in_quotes(message: str, shown: str | None) -> None:
    names = frozenset(("public", "t", "boss", "UTF8"))
    expected = shown or message.replace("0xe9 0x20", "0x… 0x…")
    assert without_values(message, names, is_whole=True) == expected


@given(st.text(min_size=8).filter(lambda value: value.strip() == value))
@example('he said "t" and "boss"')
@example('two\nlines "t"\nthree')
@example("Command was: x\npg_restore: nothing")
def test_no_value_is_heard_wherever_it_breaks(value: str) -> None:
    """As an input's value stands: quoted, as it is, to the end of the message."""
    said = f'ERROR:  invalid input syntax for type date: "secret{value}secret"'
    listener = heard(
        "pg_restore: from TOC entry 2; 0 1 TABLE DATA t boss\n"
        f'pg_restore: error: COPY failed for table "t": {said}\n'
        f'CONTEXT:  COPY t, line 1, column id: "secret{value}secret"\n'
        "pg_restore: warning: errors ignored on restore: 1\n"
    )
    assert "secret" not in repr(listener.complaints)
    assert listener.complaints[0].message.startswith("ERROR: invalid input syntax for type date")


@given(st.lists(st.binary(max_size=50)))
def test_lines_are_those_of_the_stream_however_it_is_cut(blocks: list[bytes]) -> None:
    whole = b"".join(blocks)
    expected = whole.decode(errors="surrogateescape").split("\n")
    if not expected[-1]:
        expected.pop()
    assert [*lines(blocks, "utf-8")] == expected


def test_a_long_line_is_cut_and_not_kept() -> None:
    def blocks() -> Iterable[bytes]:
        for _ in range(100):
            yield b"x" * LINE_BYTES
        yield b"\nnext"

    first, second = lines(blocks(), "utf-8")
    assert (len(first), second) == (LINE_BYTES, "next")

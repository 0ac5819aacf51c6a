from __future__ import annotations

import psycopg
import pytest

from backup.manifest import Sequence, TableContents
from backup.postgres.connection import PostgresUri
from backup.restoration.comparison import compare, compare_sequences, compare_tables
from tests.backup.examples import SOURCE, manifest_of
from tests.conftest import PG_BIN


def rows(**counts: int) -> list[TableContents]:
    return [TableContents(schema_name="public", table=name, rows=n) for name, n in counts.items()]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (rows(a=1, b=2), []),
        (rows(b=2, a=1), []),
        (rows(a=1), ["public.b is missing, 2 rows expected"]),
        (rows(a=1, b=2, c=0), ["public.c has 0 rows and is not in the manifest"]),
        (rows(a=1, b=1), ["public.b has 1 rows, 2 expected"]),
    ],
)
def test_every_difference_is_told(found: list[TableContents], told: list[str]) -> None:
    assert compare_tables(rows(a=1, b=2), found) == told


def table(rows: int | None, digest: str | None, why: str | None = None) -> list[TableContents]:
    return [TableContents(schema_name="s", table="t", rows=rows, digest=digest, unproved=why)]


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (table(None, None, "a page is damaged"), table(3, None), []),
        (table(3, None, "a page is damaged"), table(3, None), []),
        (table(3, None, "a page is damaged"), table(2, None), ["s.t has 2 rows, 3 expected"]),
        (table(3, "columns:1"), table(3, "copy:1"), []),
        (table(3, "columns:1"), table(3, "columns:2"),
         ["s.t has 3 rows as expected, but not the same"]),
        (table(0, "copy:"), table(0, "copy:0"), []),
        (table(0, "0"), table(0, ""), []),
        (table(3, "columns:1"), table(3, None, "out of memory"),
         ["s.t could not be compared, 3 rows expected: out of memory"]),
        (table(3, None), table(None, None, "out of memory"),
         ["s.t could not be compared, 3 rows expected: out of memory"]),
    ],
)  # fmt: skip
def test_what_is_known_of_a_table_is_compared(
    then: list[TableContents], now: list[TableContents], told: list[str]
) -> None:
    assert compare_tables(then, now) == told


@pytest.mark.parametrize(
    ("before", "after", "found", "well"),
    [
        (5, 9, 5, True),
        (5, 9, 9, True),
        (-5, -9, -7, True),
        (5, 9, 4, False),
        (5, 9, 10, False),
        (5, 9, None, False),
        (None, None, None, True),
        (None, None, 1, False),
        (None, 3, None, True),
        (None, 3, 2, True),
    ],
)
def test_a_sequence_stands_where_it_stood_during_the_dump(
    before: int | None, after: int | None, found: int | None, well: bool
) -> None:
    sequence = Sequence(schema_name="public", name="s", before=before, after=after)
    assert (compare_sequences([sequence], {("public", "s"): found}) == []) is well
    assert compare_sequences([sequence], {}) == ["sequence public.s is missing"]


def test_rows_are_only_counted_in_a_database_of_another_encoding(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a text); INSERT INTO t VALUES ('caf\u00e9')")
    table = TableContents(schema_name="public", table="t", rows=1, digest="columns:1")
    manifest = manifest_of().model_copy(update={"tables": (table,)})
    target = PostgresUri(database, "the copy")
    (difference,) = compare(manifest, target, 1, PG_BIN)
    assert difference == "public.t has 1 rows as expected, but not the same"
    source = SOURCE.model_copy(update={"encoding": "LATIN1"})
    manifest = manifest.model_copy(update={"source": source})
    assert compare(manifest, target, 1, PG_BIN) == []

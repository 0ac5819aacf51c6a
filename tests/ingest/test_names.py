"""Table names follow PostgreSQL's rules of identifiers."""

from __future__ import annotations

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from ingest import names

IDENTIFIERS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15
)


@pytest.mark.parametrize(
    ("text", "schema", "table", "pattern"),
    [
        ("public.employees", "public", "employees", False),
        ("Public.Employees", "public", "employees", False),
        ('public."Employees"', "public", "Employees", False),
        ('"a.b"."c ""d"" *"', "a.b", 'c "d" *', False),
        ("public.*", "public", "*", True),
        ("public.fee_*_2026", "public", "fee_*_2026", True),
        ("public.2026*", "public", "2026*", True),
        ("École.Élèves", "École", "Élèves", False),
    ],
)
def test_a_name_is_read_as_sql_would(text: str, schema: str, table: str, pattern: bool) -> None:
    assert names.parse(text) == names.TableName(schema, table, pattern)


@pytest.mark.parametrize(
    "text",
    ["", "employees", "a.b.c", "*.*", "a.", ".b", 'a."', 'a.""', "a.b;", "a. b", "a.2b", "1.b",
     'a."b"*', "a.b\n", 'a."\0"', "a." + "é" * 32, 'a."\ud800"'],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^expected "):
        names.parse(text)


@given(schema=IDENTIFIERS, table=IDENTIFIERS)
def test_what_is_displayed_reads_back(schema: str, table: str) -> None:
    assert names.parse(names.display(schema, table)) == names.TableName(schema, table)


@given(before=st.text(max_size=3), middle=st.text(max_size=5), after=st.text(max_size=3))
def test_a_star_stands_for_any_characters(before: str, middle: str, after: str) -> None:
    pattern = names.TableName("s", f"{before}*{after}", pattern=True)
    assert pattern.matches("s", before + middle + after)
    assert not pattern.matches("t", before + middle + after)


@pytest.mark.parametrize("text", ["Weird", "ÉCOLE", "a$1", "über_Größe", "Ɛdan"])
def test_folding_is_postgresqls_own(postgres, text: str) -> None:  # type: ignore[no-untyped-def]
    with psycopg.connect(postgres.uri()) as connection:
        query = sql.SQL(f"SELECT 1 AS {text}")  # type: ignore[arg-type]
        description = connection.execute(query).description
    assert description is not None
    assert names.parse(f"s.{text}").table == description[0].name

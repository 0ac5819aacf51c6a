from __future__ import annotations

import pytest

from backup.loading.qualified import identifiers, moved, names_between, qualified_names

NAMES = {("public", "marks"), ("public", 'Cage "7"\nx'), ("public", "marks_id_seq")}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("COPY public.marks (id) FROM stdin;\n", 'COPY "new".marks (id) FROM stdin;\n'),
        ('TABLE public."Cage ""7""\nx" (', 'TABLE "new"."Cage ""7""\nx" ('),
        ("COLUMN public.marks.note IS", 'COLUMN "new".marks.note IS'),
        ("REFERENCES public.marks(id)", 'REFERENCES "new".marks(id)'),
        # A function of that name, a column of a table called public, another table.
        ("CHECK (public.marks(id) > 1)", "CHECK (public.marks(id) > 1)"),
        ("a.public.marks", "a.public.marks"),
        ("public.marks_1 publicc.marks", "public.marks_1 publicc.marks"),
        # Literals: only those that name a relation.
        ("nextval('public.marks_id_seq'::regclass)", "nextval('\"new\".marks_id_seq'::regclass)"),
        ("DEFAULT 'public.marks'::text", "DEFAULT 'public.marks'::text"),
        ("E'it\\'s public.marks' public.marks", "E'it\\'s public.marks' \"new\".marks"),
        ("$a$ public.marks $a$ public.marks", '$a$ public.marks $a$ "new".marks'),
        ("'public.marks and'::regclass", "'public.marks and'::regclass"),
    ],
)
def test_names_move_to_another_schema_and_nothing_else_does(statement: str, expected: str) -> None:
    assert moved(statement, NAMES, "new", literals=False) == expected


def test_a_literal_can_be_a_name_wherever_it_stands() -> None:
    statement = "SELECT pg_catalog.setval('public.marks_id_seq', 10, true);\n"
    expected = "SELECT pg_catalog.setval('\"it''s\".marks_id_seq', 10, true);\n"
    assert moved(statement, NAMES, "it's", literals=True) == expected


def test_the_names_of_a_statement_are_those_outside_of_literals() -> None:
    statement = """CREATE INDEX i ON a."b ""c" (lower('x.y')) -- d.e\n WHERE public.f(g) > 1.5"""
    assert [*qualified_names(statement)] == [("a", 'b "c'), ("public", "f")]
    assert {"i", "a", 'b "c', "lower", "g"} <= {*identifiers(statement)}
    assert not {"x", "y", "d", "e"} & {*identifiers(statement)}


def test_names_stand_between_words() -> None:
    policy = """CREATE POLICY "TO" ON public.a FOR ALL TO b, "USING c" USING (d TO e);"""
    assert names_between(policy, "TO", ("USING", "WITH")) == ("b", "USING c")
    assert names_between("CREATE POLICY a ON b USING (c)", "TO", ("USING",)) == ()

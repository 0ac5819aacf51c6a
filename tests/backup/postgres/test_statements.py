from __future__ import annotations

import pytest

from backup.postgres.statements import statements


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("-- one; two\nSELECT 1\n;\n\n-- end\n", ["SELECT 1"]),
        ('\\restrict x\'y\nSELECT 1;\n\\connect "a;b"\nSELECT 2;', ["SELECT 1", "SELECT 2"]),
        ("COMMENT ON ROLE a IS 'it''s; so';", ["COMMENT ON ROLE a IS 'it''s; so'"]),
        (r"SELECT E'it\'s; so', 'back\'; SELECT 2;", [r"SELECT E'it\'s; so', 'back\'", "SELECT 2"]),
        ('CREATE ROLE "x\n\\! touch /tmp/x\n;";', ['CREATE ROLE "x\n\\! touch /tmp/x\n;"']),
        ('CREATE ROLE "a"";b";', ['CREATE ROLE "a"";b"']),
        ("SELECT $a$ ; $b$ ; $a$; SELECT 2", ["SELECT $a$ ; $b$ ; $a$", "SELECT 2"]),
        ("SET x TO 0.5;;", ["SET x TO 0.5"]),
    ],
)
def test_a_script_is_parted_where_a_statement_ends(script: str, expected: list[str]) -> None:
    assert [statement.text for statement in statements(script)] == expected


@pytest.mark.parametrize(
    ("statement", "words", "name"),
    [
        ("ALTER DATABASE hr SET x TO 1", ("ALTER", "DATABASE"), "hr"),
        ('alter role "Ada ""X""" in database "a b" set x to 1', ("IN", "DATABASE"), "a b"),
        ("ALTER ROLE database IN DATABASE d SET x TO 1", ("IN", "DATABASE"), "d"),
        ('GRANT ALL ON DATABASE "on database x" TO y', ("ON", "DATABASE"), "on database x"),
        ("REVOKE ALL ON SCHEMA x FROM y", ("ON", "DATABASE"), None),
    ],
)
def test_a_name_is_found_by_the_words_before_it(
    statement: str, words: tuple[str, ...], name: str | None
) -> None:
    (parsed,) = statements(statement)
    place = parsed.name_after(*words)
    assert (place and place[1]) == name
    if place:
        (again,) = statements(parsed.renamed(place[0], 'new "name"'))
        assert again.name_after(*words) == (place[0], 'new "name"')
        assert len(again.tokens) == len(parsed.tokens)

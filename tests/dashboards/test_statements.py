from __future__ import annotations

import pytest

from dashboards.statements import refusal


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT a FROM marts.enrolment WHERE b = 'SET x = 1' -- SET x\nLIMIT 11",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
        "SELECT 1 UNION ALL SELECT 2",
        "(SELECT 1)",
        "SELECT DATE_TRUNC('year', a) AS a, sum(b) AS \"SUM(b)\" FROM marts.m GROUP BY 1",
    ],
)
def test_a_query_is_sent(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "SET statement_timeout = 0", "set local statement_timeout to 0", "RESET ALL",
        "SELECT 1; SET statement_timeout = 0; SELECT 2", "SET ROLE postgres", "DISCARD ALL",
        "BEGIN", "EXPLAIN ANALYZE SELECT 1", "SHOW ALL", "DO $$ BEGIN END $$", "LISTEN x",
        "COPY a TO PROGRAM 'true'", "CREATE TEMP TABLE a (b int)", "DELETE FROM a", "SELECT 'a",
        "PREPARE a AS SELECT 1", "VACUUM", "LOCK TABLE a", "CALL a()",
    ],
)  # fmt: skip
def test_all_else_is_not(text: str) -> None:
    assert refusal(text) is not None

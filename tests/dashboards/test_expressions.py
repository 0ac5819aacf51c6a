from __future__ import annotations

import pytest

from dashboards.expressions import columns_in, uses


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("SUM(students)", {"students"}),
        ("SUM(a) FILTER (WHERE b = 'x') / NULLIF(COUNT(*), 0)", {"a", "b"}),
        ('AVG("Median hours")', {"Median hours"}),
        ("percentile_cont(0.5) WITHIN GROUP (ORDER BY hours)", {"hours"}),
        ("CASE WHEN year > 2020 THEN 1 ELSE 0 END", {"year"}),
        ("COUNT(DISTINCT a::text)", {"a"}),
        ("COUNT(*)", set()),
    ],
)
def test_the_columns_of_an_expression(expression: str, columns: set[str]) -> None:
    assert columns_in(expression) == columns


@pytest.mark.parametrize(
    "expression",
    [
        "", "SUM(", "1; DROP TABLE x", "a, b", "a FROM raw_hr.employees", "(SELECT 1)",
        "EXISTS (SELECT 1 FROM x)", "set_config('statement_timeout', '0', false)",
        "pg_read_file('/etc/passwd')", "a UNION SELECT b", "dblink('x', 'y')", "a WHERE b",
    ],
)  # fmt: skip
def test_what_is_more_than_an_expression_of_a_row_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"^it "):
        columns_in(expression)


def test_what_a_chart_uses() -> None:
    params = {
        "groupby": ["a", {"sqlExpression": "lower(b)", "label": "b"}],
        "x_axis": "c",
        "metrics": ["m", {"expressionType": "SIMPLE", "column": {"column_name": "d"}}],
        "metric": {"expressionType": "SQL", "sqlExpression": "SUM(e)"},
        "adhoc_filters": [
            {"expressionType": "SIMPLE", "subject": "f"},
            {"expressionType": "SQL", "sqlExpression": "g > 1"},
        ],
        "row_limit": 10,
    }
    assert sorted(uses(params)) == [
        ("column", "a"), ("column", "c"), ("column", "d"), ("column", "f"), ("metric", "m"),
        ("sql", "SUM(e)"), ("sql", "g > 1"), ("sql", "lower(b)"),
    ]  # fmt: skip

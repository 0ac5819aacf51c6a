"""Which columns a chart uses: by name, and in the SQL of its metrics and filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlglot
from sqlglot import expressions as sql

if TYPE_CHECKING:
    from collections.abc import Iterator

# What a chart's parameters call columns, or lists of them; and metrics.
_COLUMNS = (
    "groupby", "columns", "all_columns", "x_axis", "entity", "series", "granularity_sqla",
    "groupbyRows", "groupbyColumns", "series_columns", "all_columns_x", "all_columns_y", "source",
    "target", "temporal_columns_lookup",
)  # fmt: skip
_METRICS = (
    "metric", "metrics", "metric_2", "metrics_b", "percent_metrics", "secondary_metric", "size",
    "x", "y", "timeseries_limit_metric", "series_limit_metric",
)  # fmt: skip
# They reach beyond the row, whatever rights the reader has.
_REFUSED = (sql.Query, sql.Table, sql.Command, sql.DDL, sql.DML, sql.Set)


def columns_in(expression: str) -> set[str]:
    """Return the columns that an SQL expression names.

    Raises :class:`ValueError` if it is none, if it reads a table of its own, or calls a function of
    the server's.
    """
    try:
        trees = [tree for tree in sqlglot.parse(f"SELECT {expression}", dialect="postgres") if tree]
    except (sqlglot.ParseError, sqlglot.TokenError):
        raise ValueError("it is not SQL") from None
    if len(trees) != 1 or not isinstance(trees[0], sql.Select):
        raise ValueError("it is more than one expression")
    tree = trees[0]
    if len(tree.expressions) != 1 or (
        set(tree.args) - {"expressions"}
        and any(
            tree.args[name] for name in tree.args if name not in ("expressions", "kind", "hint")
        )
    ):
        raise ValueError("it is more than one expression")
    names = set()
    for node in tree.expressions[0].walk():
        if isinstance(node, _REFUSED):
            raise ValueError("it reads more than a row of the mart")
        if isinstance(node, sql.Anonymous) and _of_the_server(str(node.name)):
            raise ValueError(f"it calls {node.name}")
        if isinstance(node, sql.Column):
            names.add(str(node.name))
    return names


def _of_the_server(function: str) -> bool:
    name = function.lower()
    return name.startswith(("pg_", "lo_", "dblink")) or name in {"set_config", "query_to_xml"}


def uses(params: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what a chart's parameters use: ("column" or "metric" or "sql", its name or text)."""
    for name in _COLUMNS:
        for each in _listed(params.get(name)):
            yield from _column(each)
    for name in _METRICS:
        for each in _listed(params.get(name)):
            yield from _metric(each)
    for each in _listed(params.get("adhoc_filters")):
        if not isinstance(each, dict):
            continue
        if each.get("expressionType") == "SQL":
            yield "sql", str(each.get("sqlExpression") or "")
        elif each.get("subject"):
            yield "column", str(each["subject"])


def _listed(value: Any) -> list[Any]:
    if value in (None, ""):
        return []
    return value if isinstance(value, list) else [value]


def _column(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "column", value
    elif isinstance(value, dict) and value.get("sqlExpression"):
        yield "sql", str(value["sqlExpression"])


def _metric(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield "metric", value
    elif isinstance(value, dict):
        if value.get("expressionType") == "SQL":
            yield "sql", str(value.get("sqlExpression") or "")
        elif isinstance(value.get("column"), dict):
            yield "column", str(value["column"].get("column_name"))

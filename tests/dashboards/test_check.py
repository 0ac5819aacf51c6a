from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboards.check import check
from dashboards.normal import digest
from tests.dashboards import examples as at
from tests.dashboards.examples import Repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def problems(repository: Repository) -> list[str]:
    return check(repository.tree()).problems


def test_the_example_is_sound() -> None:
    findings = check(Repository().tree())
    assert findings.problems == []
    assert len(findings.assets) == 4


def _set(path: str, *keys: Any, value: Any) -> Callable[[Repository], None]:
    def change(repository: Repository) -> None:
        place = repository.contents[path]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


def _adhoc(expression: str) -> dict[str, str]:
    return {"expressionType": "SQL", "sqlExpression": expression, "label": "x"}


URI = "sqlalchemy_uri"
FAULTS: dict[str, tuple[Callable[[Repository], None], str]] = {
    "broken YAML": (lambda r: r.contents.update({at.BARS_FILE: "a: [1"}), "it is not YAML"),
    "an alias": (lambda r: r.contents.update({at.BARS_FILE: "a: &a [1]\nb: *a"}), "an alias"),
    "a Python object": (
        lambda r: r.contents.update({at.BARS_FILE: "!!python/object/apply:os.system ['true']"}),
        "it is not YAML",
    ),
    "a deep nest": (lambda r: r.contents.update({at.BARS_FILE: "[" * 5000}), "it is not YAML"),
    "a list": (lambda r: r.contents.update({at.BARS_FILE: "[1]"}), "expected fields and values"),
    "another kind": (
        lambda r: r.contents.update({"dashboards/queries/a.yaml": {"a": 1}}),
        "expected it in databases, datasets, charts, dashboards",
    ),
    "no uuid": (_set(at.BARS_FILE, "uuid", value="x"), "its uuid: input should be a valid uuid"),
    "the same uuid": (_set(at.BARS_FILE, "uuid", value=at.TOTAL), "they have the same uuid"),
    "the same name": (_set(at.BARS_FILE, "slice_name", value="Students"), "the same name"),
    "no title": (
        _set(at.DASHBOARD_FILE, "dashboard_title", value=" "), "its dashboard_title: string should",
    ),
    "no description": (_set(at.BARS_FILE, "description", value=""), "it has no description"),
    "a long title": (
        _set(at.BARS_FILE, "slice_name", value="x" * 251), "slice_name: string should have at most",
    ),
    "no position": (
        _set(at.DASHBOARD_FILE, "position", value=None), "its position: input should be a valid",
    ),
    "a text for params": (
        _set(at.BARS_FILE, "params", value="x"), "its params: input should be a valid dictionary",
    ),
    "filters that are none": (
        _set(at.DASHBOARD_FILE, "metadata", "native_filter_configuration", value=["x"]),
        "its metadata.native_filter_configuration.0: input should be",
    ),
    "no such mart": (_set(at.DATASET_FILE, "table_name", value="salaries"), "there is no mart"),
    "another schema": (_set(at.DATASET_FILE, "schema", value="raw_hr"), "its schema is 'raw_hr'"),
    "a query": (_set(at.DATASET_FILE, "sql", value="SELECT 1"), "it has sql"),
    "rows from elsewhere": (
        _set(at.DATASET_FILE, "data", value="https://example.org/x.csv"), "it has data",
    ),
    "another database": (
        _set(at.DATASET_FILE, "database_uuid", value=at.TOTAL), "its database_uuid is not",
    ),
    "no such column": (
        _set(at.DATASET_FILE, "columns", 0, "column_name", value="month"), "no column 'month'",
    ),
    "no such column in a metric": (
        _set(at.DATASET_FILE, "metrics", 0, "expression", value="SUM(pay)"), "names 'pay'",
    ),
    "a metric that reads a table": (
        _set(at.DATASET_FILE, "metrics", 0, "expression", value="(SELECT pay FROM raw_hr.pay)"),
        "it reads more than a row",
    ),
    "no such column in a chart": (
        _set(at.BARS_FILE, "params", "groupby", value=["month"]), "has no column 'month'",
    ),
    "no such metric in a chart": (
        _set(at.BARS_FILE, "params", "metrics", value=["pay"]), "has no metric 'pay'",
    ),
    "SQL in a chart": (
        _set(at.BARS_FILE, "params", "metrics", value=[_adhoc("SUM(pay)")]), "names 'pay'",
    ),
    "SQL in a filter": (
        _set(at.BARS_FILE, "params", "adhoc_filters", value=[_adhoc("pay > 1")]), "names 'pay'",
    ),
    "a chart of no dataset": (
        _set(at.BARS_FILE, "dataset_uuid", value=at.TOTAL), "its dataset is in no file",
    ),
    "a dashboard of no chart": (
        lambda r: r.contents.pop(at.BARS_FILE), "its chart 'Students by year' is in no file",
    ),
    "a filter on no column": (
        _set(
            at.DASHBOARD_FILE, "metadata", "native_filter_configuration", 0, "targets", 0, "column",
            "name", value="month",
        ),
        "its filter is on 'month'",
    ),
    "a password": (
        _set("dashboards/databases/School.yaml", URI, value="postgresql://bi:hush@h/w"),
        "it holds a password",
    ),
    "models that are none": (
        lambda r: r.contents.update({at.MODELS: "models: [1]"}), "describes no models",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named(change: Callable[[Repository], None], message: str) -> None:
    repository = Repository()
    change(repository)
    assert any(message in problem for problem in problems(repository)), problems(repository)


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Yield where something stands in a file: what holds it, and its key there."""
    for key in content if isinstance(content, dict) else range(len(content)):
        yield content, key
        if isinstance(content[key], (dict, list)):
            yield from places(content[key])


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(at.UUIDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_stands_in_a_file_is_a_line_or_can_be_written(data: st.DataObject) -> None:
    repository = Repository()
    for _ in range(data.draw(st.integers(1, 3))):
        file = data.draw(st.sampled_from(sorted(repository.contents)))
        holder, key = data.draw(st.sampled_from(list(places(repository.contents[file]))))
        holder[key] = data.draw(ANYTHING)
    findings = check(repository.tree())
    for asset in findings.assets:
        digest(asset)


def test_no_problem_repeats_a_password() -> None:
    repository = Repository()
    repository.contents["dashboards/databases/School.yaml"][URI] = "postgresql://bi:hush@h/w"
    assert "hush" not in " ".join(problems(repository))

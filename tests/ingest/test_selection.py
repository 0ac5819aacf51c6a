"""Which tables a pipeline means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from ingest import selection
from ingest.contract import Pipeline
from ingest.shapes import Relation

if TYPE_CHECKING:
    from ingest.shapes import Kind


def relation(name: str, kind: Kind = "r", schema: str = "public", **more: bool) -> Relation:
    return Relation(1, schema, name, kind, readable=True, **more)


def pipeline(*names: str | dict[str, object]) -> Pipeline:
    return Pipeline.model_validate(
        {
            "source": "hr",
            "schema": "raw_hr",
            "schedule": "@daily",
            "owner": "x",
            "tables": [{"name": each} if isinstance(each, str) else each for each in names],
        }
    )


SOURCE = (
    relation("results", "p"),
    relation("results_1", partition=True),
    relation("staff"),
    relation("Staff"),
    relation("staff_view", "v"),
    relation("staff_foreign", "f"),
    relation("spatial_ref_sys", extension=True),
    relation("staff", schema="archive"),
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["public.*"], ["public.\"Staff\"", "public.results", "public.staff"]),
        (["public.sta*"], ["public.staff"]),
        (["public.staff", "public.s*"], ["public.staff"]),
        (["public.results_1", "public.staff_view"], ["public.results_1", "public.staff_view"]),
        (["archive.*"], ["archive.staff"]),
    ],
)  # fmt: skip
def test_patterns_mean_tables_and_names_mean_anything(
    names: list[str], expected: list[str]
) -> None:
    assert [str(found) for found in selection.select(pipeline(*names), SOURCE)] == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["public.pupils"], "source hr: expected public.pupils, found no such table"),
        (["public.*_view"], "expected public.*_view, found no such table"),
        (
            ["public.*", "archive.*"],
            "table staff: expected one source, found public.staff and arch",
        ),
    ],
)
def test_what_cannot_be_loaded_is_named(names: list[str], expected: str) -> None:
    with pytest.raises(Failure) as failure:
        selection.select(pipeline(*names), SOURCE)
    assert expected in failure.value.message
    assert "HINT: " in str(failure.value)


def test_a_pattern_leaves_out_what_the_file_says() -> None:
    wanted = pipeline({"name": "public.*", "except": ["public.s*", 'public."Staff"']})
    assert [str(found) for found in selection.select(wanted, SOURCE)] == ["public.results"]
    both = pipeline({"name": "public.*", "except": ["public.staff"]}, "archive.staff")
    assert [str(found) for found in selection.select(both, SOURCE)] == [
        'public."Staff"', "public.results", "archive.staff",
    ]  # fmt: skip
    assert str(selection.rule(both, "archive", "staff").table.schema) == "archive"

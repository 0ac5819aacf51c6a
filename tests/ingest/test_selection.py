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
    assert [str(found) for found in selection.select(pipeline(*names), SOURCE).rules] == expected


@pytest.mark.parametrize(
    ("name", "published"),
    [("public.pupils", "raw_hr.pupils"), ("public.*_view", "public.*_view")],
)
def test_what_the_source_has_not_is_named_and_the_others_are_chosen(
    name: str, published: str
) -> None:
    found = selection.select(pipeline(name, "public.staff"), SOURCE)
    assert [str(each) for each in found.rules] == ["public.staff"]
    assert [(each, str(error)) for each, error in found.missing.items()] == [
        (
            published,
            f"source hr: expected {name}, found no such table\nHINT: Mend the name in the pipeline"
            " file; views are loaded only if named.",
        )
    ]


def test_two_tables_of_one_published_name_are_an_error() -> None:
    with pytest.raises(Failure) as failure:
        selection.select(pipeline("public.*", "archive.*"), SOURCE)
    expected = "table staff: expected one source, found public.staff and arch"
    assert expected in failure.value.message
    assert "HINT: " in str(failure.value)


def test_a_pattern_leaves_out_what_the_file_says() -> None:
    wanted = pipeline({"name": "public.*", "except": ["public.s*", 'public."Staff"']})
    assert [str(found) for found in selection.select(wanted, SOURCE).rules] == ["public.results"]
    both = pipeline({"name": "public.*", "except": ["public.staff"]}, "archive.staff")
    assert [str(found) for found in selection.select(both, SOURCE).rules] == [
        'public."Staff"', "public.results", "archive.staff",
    ]  # fmt: skip
    assert str(selection.rule(both, "archive", "staff").table.schema) == "archive"

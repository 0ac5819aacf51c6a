"""The analysts' dashboards as files; tests/e2e/test_dashboards.py opens them in a browser."""

from __future__ import annotations

import pytest

from dashboards.check import check
from dashboards.files import read_folder
from dashboards.layout import CHARTS, DASHBOARDS, charts_of, filters_of
from scripts.repository import ROOT

FINDINGS = check(read_folder(ROOT / "airflow/analysts-template"))
PAGES = {each.content["slug"]: each.content for each in FINDINGS.assets if each.kind == DASHBOARDS}
CHARTS_SHOWN = {uuid for page in PAGES.values() for uuid in charts_of(page)}


def test_the_files_are_sound() -> None:
    assert FINDINGS.problems == []


@pytest.mark.parametrize("slug", PAGES)
def test_a_dashboard_has_filters_and_says_its_question_and_how_new_it_is(slug: str) -> None:
    page = PAGES[slug]
    assert len(filters_of(page)) >= 2
    assert page["metadata"]["filter_bar_orientation"] == "HORIZONTAL"
    places = [place for place in page["position"].values() if isinstance(place, dict)]
    (text,) = [place["meta"]["code"] for place in places if place.get("type") == "MARKDOWN"]
    assert text.startswith("**")
    assert "?**" in text
    assert "empty" in text or "without anything" in text
    shown = [meta.get("sliceNameOverride") for meta in charts_of(page).values()]
    assert shown.count("Data as of") == 1


def test_every_chart_says_what_it_shows_and_is_on_a_dashboard() -> None:
    charts = [each for each in FINDINGS.assets if each.kind == CHARTS]
    assert all(each.content["description"].strip().endswith(".") for each in charts)
    assert {each.uuid for each in charts} == CHARTS_SHOWN

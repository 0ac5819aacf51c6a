from __future__ import annotations

import copy
from typing import Any

import pytest

from dashboards.files import read
from dashboards.layout import DASHBOARDS, DATASETS, Asset
from dashboards.normal import digest, normal
from tests.dashboards.examples import CONTENTS, DASHBOARD_FILE, DATASET_FILE, Repository


def renumbered(content: dict[str, Any]) -> dict[str, Any]:
    """Return the dashboard as another Superset has it, where its charts are 71 and 72."""
    there = copy.deepcopy(content)
    there["position"]["CHART-1"]["meta"]["chartId"] = 71
    there["position"]["CHART-2"]["meta"]["chartId"] = 72
    (first,) = there["metadata"]["native_filter_configuration"]
    first["scope"]["excluded"] = [72]
    first["chartsInScope"] = [71]
    first["targets"][0]["datasetId"] = 5
    there["metadata"]["expanded_slices"] = {"71": True}
    return there


def test_a_dashboard_is_the_same_whatever_numbers_its_charts_have() -> None:
    here = Asset(DASHBOARDS, CONTENTS[DASHBOARD_FILE])
    there = Asset(DASHBOARDS, renumbered(CONTENTS[DASHBOARD_FILE]))
    assert normal(here) == normal(there)
    assert digest(here) == digest(there)


def test_the_form_is_its_own_form() -> None:
    for asset in read(Repository().tree()).assets:
        assert normal(Asset(asset.kind, normal(asset))) == normal(asset), asset.file


def test_the_original_is_left_as_it_is() -> None:
    before = copy.deepcopy(CONTENTS)
    for asset in read(Repository().tree()).assets:
        normal(asset)
    assert before == CONTENTS


@pytest.mark.parametrize("field", ["data", "sql", "owners", "id", "template_params", "extra"])
def test_what_is_superset_s_own_or_not_a_mart_is_dropped(field: str) -> None:
    content = {**CONTENTS[DATASET_FILE], field: "x"}
    assert digest(Asset(DATASETS, content)) == digest(Asset(DATASETS, CONTENTS[DATASET_FILE]))


def test_a_change_that_people_see_is_another_digest() -> None:
    content = {**CONTENTS[DATASET_FILE], "description": "other"}
    assert digest(Asset(DATASETS, content)) != digest(Asset(DATASETS, CONTENTS[DATASET_FILE]))

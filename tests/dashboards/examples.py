"""An analysts' repository with one mart, one dataset, two charts and one dashboard."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from dashboards.files import Tree
from dashboards.layout import DATABASE_UUID

if TYPE_CHECKING:
    from pathlib import Path

DATASET = "0e5d2c1a-0000-4000-8000-000000000001"
BARS = "0e5d2c1a-0000-4000-8000-000000000002"
TOTAL = "0e5d2c1a-0000-4000-8000-000000000003"
DASHBOARD = "0e5d2c1a-0000-4000-8000-000000000004"
OTHER = "0e5d2c1a-0000-4000-8000-000000000005"
UUIDS = (DATASET, BARS, TOTAL, DASHBOARD)
MODELS = "models/marts/records/_records.yml"
DATASET_FILE = "dashboards/datasets/School/enrolment.yaml"
BARS_FILE = "dashboards/charts/Students_by_year.yaml"
TOTAL_FILE = "dashboards/charts/Students.yaml"
DASHBOARD_FILE = "dashboards/dashboards/Enrolment.yaml"


def _place(uuid: str, number: int, name: str) -> dict[str, Any]:
    return {
        "id": f"CHART-{number}",
        "type": "CHART",
        "children": [],
        "parents": ["ROOT_ID", "GRID_ID", "ROW-1"],
        "meta": {"uuid": uuid, "chartId": number, "sliceName": name, "width": 6, "height": 50},
    }


CONTENTS: dict[str, dict[str, Any]] = {
    MODELS: {
        "version": 2,
        "models": [
            {
                "name": "enrolment",
                "columns": [{"name": "year"}, {"name": "programme"}, {"name": "students"}],
            }
        ],
    },
    "dashboards/metadata.yaml": {"version": "1.0.0", "type": "assets"},
    "dashboards/databases/School.yaml": {
        "database_name": "School",
        "sqlalchemy_uri": "postgresql://XXXXXXXXXX@localhost/warehouse",
        "uuid": DATABASE_UUID,
        "version": "1.0.0",
    },
    DATASET_FILE: {
        "uuid": DATASET,
        "version": "1.0.0",
        "database_uuid": DATABASE_UUID,
        "schema": "marts",
        "table_name": "enrolment",
        "description": "Students who are enrolled, by programme and year.",
        "columns": [
            {"column_name": "year", "type": "INTEGER", "groupby": True, "filterable": True},
            {"column_name": "programme", "type": "TEXT", "groupby": True, "filterable": True},
            {"column_name": "students", "type": "INTEGER", "groupby": True, "filterable": True},
        ],
        "metrics": [{"metric_name": "students_sum", "expression": "SUM(students)"}],
    },
    BARS_FILE: {
        "uuid": BARS,
        "version": "1.0.0",
        "dataset_uuid": DATASET,
        "slice_name": "Students by year",
        "description": "How many students there were each year.",
        "viz_type": "table",
        "params": {
            "viz_type": "table",
            "query_mode": "aggregate",
            "groupby": ["year"],
            "metrics": ["students_sum"],
            "row_limit": 100,
        },
    },
    TOTAL_FILE: {
        "uuid": TOTAL,
        "version": "1.0.0",
        "dataset_uuid": DATASET,
        "slice_name": "Students",
        "description": "How many students there are.",
        "viz_type": "big_number_total",
        "params": {"viz_type": "big_number_total", "metric": "students_sum"},
    },
    DASHBOARD_FILE: {
        "uuid": DASHBOARD,
        "version": "1.0.0",
        "dashboard_title": "Enrolment",
        "description": "Who studies what.",
        "slug": "enrolment",
        "published": True,
        "position": {
            "DASHBOARD_VERSION_KEY": "v2",
            "ROOT_ID": {"id": "ROOT_ID", "type": "ROOT", "children": ["GRID_ID"]},
            "GRID_ID": {
                "id": "GRID_ID", "type": "GRID", "children": ["ROW-1"], "parents": ["ROOT_ID"],
            },
            "HEADER_ID": {"id": "HEADER_ID", "type": "HEADER", "meta": {"text": "Enrolment"}},
            "ROW-1": {
                "id": "ROW-1", "type": "ROW", "children": ["CHART-1", "CHART-2"],
                "parents": ["ROOT_ID", "GRID_ID"], "meta": {"background": "BACKGROUND_TRANSPARENT"},
            },
            "CHART-1": _place(BARS, 1, "Students by year"),
            "CHART-2": _place(TOTAL, 2, "Students"),
        },
        "metadata": {
            "native_filter_configuration": [
                {
                    "id": "NATIVE_FILTER-year",
                    "name": "Year",
                    "type": "NATIVE_FILTER",
                    "filterType": "filter_select",
                    "targets": [{"datasetUuid": DATASET, "column": {"name": "year"}}],
                    "scope": {"rootPath": ["ROOT_ID"], "excluded": [2]},
                    "controlValues": {},
                    "defaultDataMask": {},
                    "cascadeParentIds": [],
                }
            ],
            "expanded_slices": {"1": True},
        },
    },
}  # fmt: skip


@dataclass
class Repository:
    """The files of the example, to be changed by a test."""

    contents: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(CONTENTS))

    def texts(self) -> dict[str, str]:
        return {
            path: content if isinstance(content, str) else yaml.safe_dump(content)
            for path, content in self.contents.items()
        }

    def tree(self) -> Tree:
        return Tree(self.texts())

    def write(self, root: Path) -> Path:
        for path, text in self.texts().items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        return root

"""How dashboards lie in files: Superset's own layout of an export, below ``dashboards/``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# The one database that files may name: what it is, Superset learns from the platform alone.
DATABASE = "School"
DATABASE_UUID = "6d617274-7300-4000-8000-7363686f6f6c"
SCHEMA = "marts"
# What the platform itself keeps in that schema, beside the marts that models describe: the columns
# of each table (transform/journal.py).
PLATFORM = {"published_marts": {"mart", "published_at", "checked_at", "unsound"}}

DATASETS, CHARTS, DASHBOARDS = "datasets", "charts", "dashboards"
# In the order in which one can be written: each names what stands before it.
KINDS = (DATASETS, CHARTS, DASHBOARDS)
NAMES = {DATASETS: "table_name", CHARTS: "slice_name", DASHBOARDS: "dashboard_title"}


@dataclass(frozen=True)
class Asset:
    """A dataset, chart or dashboard, as Superset's export spells it."""

    kind: str
    content: dict[str, Any]
    file: str = ""

    @property
    def uuid(self) -> str:
        """What it is called everywhere and for ever."""
        return str(self.content["uuid"])

    @property
    def name(self) -> str:
        """What people call it."""
        return str(self.content[NAMES[self.kind]])

    def __str__(self) -> str:
        return f"{self.kind.removesuffix('s')} {self.name!r}"


def charts_of(dashboard: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the places of a dashboard that show a chart, by the chart's uuid."""
    return {
        str(place["meta"]["uuid"]): place["meta"]
        for place in (dashboard.get("position") or {}).values()
        if isinstance(place, dict)
        and place.get("type") == "CHART"
        and isinstance(place.get("meta"), dict)
        and place["meta"].get("uuid")
    }


def filters_of(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the filters of a dashboard are on: one entry for each dataset's column."""
    filters = (dashboard.get("metadata") or {}).get("native_filter_configuration") or []
    return [target for each in filters for target in each.get("targets") or [] if target]

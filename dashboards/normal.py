"""The form in which two copies of an asset are compared, and in which it is written.

Without what differs from one Superset to the next: ids of its database, owners, times. A chart on a
dashboard is called by a number of its own, in the order of the charts' uuids.
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from dashboards.layout import CHARTS, DASHBOARDS, DATASETS, Asset, charts_of, filters_of

# By kind, what is kept; all else is Superset's own, or steers where rows come from (`data`).
_KEPT = {
    DATASETS: (
        "uuid", "version", "database_uuid", "schema", "table_name", "description", "main_dttm_col",
        "columns", "metrics", "default_endpoint", "filter_select_enabled", "normalize_columns",
        "always_filter_main_dttm", "currency_code_column",
    ),
    CHARTS: (
        "uuid", "version", "dataset_uuid", "slice_name", "description", "viz_type", "params",
        "cache_timeout", "certified_by", "certification_details",
    ),
    DASHBOARDS: (
        "uuid", "version", "dashboard_title", "description", "slug", "css", "position", "metadata",
        "published", "certified_by", "certification_details",
    ),
}  # fmt: skip
_KEPT_OF = {
    "columns": (
        "column_name", "verbose_name", "is_dttm", "is_active", "type", "groupby", "filterable",
        "description", "python_date_format", "datetime_format", "advanced_data_type",
        "expression",
    ),
    "metrics": (
        "metric_name", "verbose_name", "metric_type", "expression", "description", "d3format",
        "currency", "warning_text",
    ),
}  # fmt: skip
_LOCAL_PARAMS = ("datasource", "slice_id", "dashboards", "url_params", "annotation_layers")
# What Superset works out anew when a dashboard is opened.
_LOCAL_METADATA = ("chartsInScope", "remote_id", "import_time", "owners", "shared_label_colors",
                   "map_label_colors")  # fmt: skip


def normal(asset: Asset) -> dict[str, Any]:
    """Return the content of ``asset`` in that form; empty fields are left out."""
    content = {key: copy.deepcopy(asset.content.get(key)) for key in _KEPT[asset.kind]}
    content["uuid"] = asset.uuid.lower()
    content["version"] = "1.0.0"
    if asset.kind == DATASETS:
        for name, keys in _KEPT_OF.items():
            content[name] = sorted(
                (_filled({key: each.get(key) for key in keys}) for each in content[name] or []),
                key=lambda each: str(each.get("column_name") or each.get("metric_name")),
            )
    elif asset.kind == CHARTS:
        params = content.get("params") or {}
        content["params"] = {k: v for k, v in params.items() if k not in _LOCAL_PARAMS}
    else:
        _renumber(content)
        content["metadata"] = _without(content.get("metadata") or {}, _LOCAL_METADATA)
    return _filled(content)


def digest(asset: Asset) -> str:
    """Return what two copies of the same asset have in common."""
    text = json.dumps(normal(asset), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _filled(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if value not in (None, "", [], {})}


def _without(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, names) for k, v in sorted(value.items()) if k not in names}
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    return value


def _renumber(dashboard: dict[str, Any]) -> None:
    """Give the charts of a dashboard numbers by the order of their uuids, wherever they stand."""
    charts = charts_of(dashboard)
    numbers = {
        charts[uuid].get("chartId"): number for number, uuid in enumerate(sorted(charts), start=1)
    }
    for meta in charts.values():
        meta["chartId"] = numbers[meta.get("chartId")]
    metadata = dashboard.get("metadata") or {}
    for name in ("expanded_slices", "filter_scopes", "chart_configuration"):
        if isinstance(metadata.get(name), dict):
            metadata[name] = {
                str(numbers[int(old)]): _renumbered(value, numbers)
                for old, value in metadata[name].items()
                if str(old).isascii() and str(old).isdigit() and int(old) in numbers
            }
    for name in ("global_chart_configuration", "native_filter_configuration"):
        if name in metadata:
            metadata[name] = _renumbered(metadata[name], numbers)
    if isinstance(metadata.get("timed_refresh_immune_slices"), list):
        immune = metadata["timed_refresh_immune_slices"]
        metadata["timed_refresh_immune_slices"] = _known(immune, numbers)
    for target in filters_of(dashboard):
        target.pop("datasetId", None)  # beside it stands its uuid


def _known(charts: list[Any], numbers: dict[Any, int]) -> list[int]:
    """Return the new numbers of the charts that are shown."""
    return sorted(numbers[old] for old in charts if isinstance(old, int) and old in numbers)


def _renumbered(value: Any, numbers: dict[Any, int]) -> Any:
    """Return ``value`` with new numbers where it names a chart: `excluded`, `immune`, `id`."""
    if isinstance(value, list):
        return [_renumbered(each, numbers) for each in value]
    if not isinstance(value, dict):
        return value
    changed: dict[str, Any] = {}
    for key, each in value.items():
        if key in ("excluded", "immune") and isinstance(each, list):
            changed[key] = _known(each, numbers)
        elif key == "id" and isinstance(each, int) and each in numbers:
            changed[key] = numbers[each]
        else:
            changed[key] = _renumbered(each, numbers)
    return changed

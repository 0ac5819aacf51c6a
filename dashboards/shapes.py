"""What of a file is relied on, here and by Superset: which fields, of which types, how long.

Lengths are those of Superset's own columns.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID  # noqa: TC003 - pydantic reads it

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dashboards.layout import CHARTS, DASHBOARDS, DATASETS

_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=250)]


class _Shape(BaseModel):
    """Fields beside these are Superset's own."""

    model_config = ConfigDict(extra="allow")


class _Column(_Shape):
    column_name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    expression: str | None = None


class _Metric(_Shape):
    metric_name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    expression: Annotated[str, StringConstraints(min_length=1)]


class _Dataset(_Shape):
    uuid: UUID
    table_name: _Name
    columns: list[_Column] | None = None
    metrics: list[_Metric] | None = None


class _Chart(_Shape):
    uuid: UUID
    dataset_uuid: UUID
    slice_name: _Name
    viz_type: _Name
    params: dict[str, Any] | None = None
    cache_timeout: int | None = None


class _Named(_Shape):
    name: str


class _Target(_Shape):
    dataset: Annotated[UUID, Field(alias="datasetUuid")]
    column: _Named | None = None


class _Filter(_Shape):
    # A filter on the time alone has an empty target.
    targets: list[_Target | Annotated[dict[str, Any], Field(max_length=0)]] | None = None


class _Metadata(_Shape):
    native_filter_configuration: list[_Filter] | None = None


class _Meta(_Shape):
    uuid: UUID | None = None
    number: Annotated[int | None, Field(alias="chartId")] = None
    name: Annotated[str | None, Field(alias="sliceName")] = None


class _Place(_Shape):
    type: str
    id: str
    children: list[str] | None = None
    meta: _Meta | None = None


class _Dashboard(_Shape):
    uuid: UUID
    dashboard_title: Annotated[_Name, StringConstraints(max_length=500)]
    slug: Annotated[str, StringConstraints(max_length=255)] | None = None
    position: dict[str, _Place | str]
    metadata: _Metadata | None = None


_SHAPES: dict[str, type[_Shape]] = {DATASETS: _Dataset, CHARTS: _Chart, DASHBOARDS: _Dashboard}
_MOST = 3  # faults a file: those of a union say the same several times


def faults(kind: str, content: dict[str, Any]) -> list[str]:
    """Return what of a file's ``content`` is not as an export of that kind is, a line each."""
    try:
        _SHAPES[kind].model_validate(content)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        lines = [f"its {'.'.join(map(str, each['loc']))}: {each['msg'].lower()}" for each in found]
        return list(dict.fromkeys(lines))[:_MOST]
    return []

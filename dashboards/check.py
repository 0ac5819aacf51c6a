"""Whether dashboards in files fit together and fit the marts: without Superset or a database."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dashboards.expressions import columns_in, uses
from dashboards.files import MODELS, Files, Tree, parse, read
from dashboards.layout import (
    CHARTS,
    DASHBOARDS,
    DATABASE,
    DATABASE_UUID,
    DATASETS,
    PLATFORM,
    SCHEMA,
    Asset,
    charts_of,
    filters_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_PASSWORD = re.compile(r"://[^/\s:@]*:(?!X+@)[^/\s@]+@")
# What would bring rows or SQL of its own into a dataset.
_NOT_A_MART = ("sql", "data", "template_params", "fetch_values_predicate")


@dataclass
class Findings:
    """The assets, and everything that is wrong with them: one line each, with the file."""

    assets: list[Asset]
    problems: list[str] = field(default_factory=list)


def check(tree: Tree) -> Findings:
    """Check every file of ``tree`` by itself, beside the others, and against the models."""
    files = read(tree)
    marts, problems = read_marts(tree)
    findings = Findings(files.assets, [*files.problems, *problems])
    known = {kind: _by_uuid(files, kind) for kind in (DATASETS, CHARTS, DASHBOARDS)}
    findings.problems += _twice(files)
    for file, content in files.databases.items():
        findings.problems += (f"{file}: {each}" for each in _database(content))
    for asset in files.assets:
        faults = [*_texts(asset)]
        if asset.kind == DATASETS:
            faults += _dataset(asset, marts)
        elif asset.kind == CHARTS:
            faults += _chart(asset, known[DATASETS])
        else:
            faults += _dashboard(asset, known[CHARTS], known[DATASETS])
        findings.problems += (f"{asset.file}: {each}" for each in dict.fromkeys(faults))
    return findings


def read_marts(tree: Tree) -> tuple[dict[str, set[str]], list[str]]:
    """Return the columns of each mart, and what could not be read of its description."""
    marts: dict[str, set[str]] = {name: set(columns) for name, columns in PLATFORM.items()}
    problems = []
    for path, text in tree.below(MODELS).items():
        try:
            content = parse(text)
            for model in (content or {}).get("models") or []:
                marts[str(model["name"])] = {str(c["name"]) for c in model.get("columns") or []}
        except ValueError as error:
            problems.append(f"{MODELS}/{path}: it is not YAML: {error}")
        except (AttributeError, KeyError, TypeError):
            problems.append(f"{MODELS}/{path}: it describes no models as dbt does")
    return marts, problems


def _by_uuid(files: Files, kind: str) -> dict[str, Asset]:
    return {asset.uuid.lower(): asset for asset in files.assets if asset.kind == kind}


def _twice(files: Files) -> Iterator[str]:
    for uuid, times in Counter(asset.uuid.lower() for asset in files.assets).items():
        if times > 1:
            named = [asset.file for asset in files.assets if asset.uuid.lower() == uuid]
            yield f"{', '.join(named)}: they have the same uuid {uuid}"
    for (kind, name), times in Counter((a.kind, a.name) for a in files.assets).items():
        if times > 1:
            named = [a.file for a in files.assets if (a.kind, a.name) == (kind, name)]
            yield f"{', '.join(named)}: they have the same name {name!r}"


def _database(content: dict[str, Any]) -> Iterator[str]:
    if str(content.get("uuid", "")).lower() != DATABASE_UUID:
        yield f"its uuid is not {DATABASE_UUID}, that of the database {DATABASE}"
    if any(_PASSWORD.search(str(value)) for value in content.values()) or content.get("password"):
        yield "it holds a password: remove it, and change it where it counts"


def _texts(asset: Asset) -> Iterator[str]:
    if not str(asset.content.get("description") or "").strip():
        yield "it has no description"


def _dataset(asset: Asset, marts: dict[str, set[str]]) -> Iterator[str]:
    content = asset.content
    if str(content.get("database_uuid", "")).lower() != DATABASE_UUID:
        yield f"its database_uuid is not {DATABASE_UUID}, that of the database {DATABASE}"
    if content.get("schema") != SCHEMA:
        yield f"its schema is {content.get('schema')!r}, expected {SCHEMA!r}"
    for name in _NOT_A_MART:
        if content.get(name):
            yield f"it has {name}: a dataset is a mart as it is, so make a mart of it"
    if asset.name not in marts:
        yield f"there is no mart {asset.name!r} in {MODELS}"
        return
    there = marts[asset.name]
    for column in content.get("columns") or []:
        if column.get("expression"):
            yield from _expression(str(column["expression"]), there, asset.name)
        elif column.get("column_name") not in there:
            yield f"the mart {asset.name!r} has no column {column.get('column_name')!r}"
    for metric in content.get("metrics") or []:
        yield from _expression(str(metric.get("expression") or ""), there, asset.name)


def _expression(text: str, there: set[str], mart: str) -> Iterator[str]:
    try:
        for name in sorted(columns_in(text) - there):
            yield f"{text!r} names {name!r}, which {mart!r} does not have"
    except ValueError as error:
        yield f"{text!r}: {error}"


def _chart(asset: Asset, datasets: dict[str, Asset]) -> Iterator[str]:
    dataset = datasets.get(str(asset.content.get("dataset_uuid", "")).lower())
    if dataset is None:
        yield "its dataset is in no file"
        return
    columns = {str(each.get("column_name")) for each in dataset.content.get("columns") or []}
    metrics = {str(each.get("metric_name")) for each in dataset.content.get("metrics") or []}
    for kind, name in uses(asset.content.get("params") or {}):
        if kind == "sql":
            yield from _expression(name, columns, dataset.name)
        elif kind == "column" and name not in columns:
            yield f"the dataset {dataset.name!r} has no column {name!r}"
        elif kind == "metric" and name not in metrics | columns:
            yield f"the dataset {dataset.name!r} has no metric {name!r}"


def _dashboard(asset: Asset, charts: dict[str, Asset], datasets: dict[str, Asset]) -> Iterator[str]:
    shown = charts_of(asset.content)
    if not shown:
        yield "it shows no chart"
    for uuid, meta in shown.items():
        if uuid.lower() not in charts:
            yield f"its chart {meta.get('sliceName') or uuid!r} is in no file"
    for target in filters_of(asset.content):
        dataset = datasets.get(str(target.get("datasetUuid", "")).lower())
        column = (target.get("column") or {}).get("name")
        if dataset is None:
            yield f"its filter on {column!r} is on a dataset in no file"
        elif column not in {each.get("column_name") for each in dataset.content["columns"]}:
            yield f"its filter is on {column!r}, which {dataset.name!r} does not have"

"""What Superset has of datasets, charts and dashboards, read and written by its own commands.

Everything here runs inside :func:`dashboards.application.superset`.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import delete, insert
from sqlalchemy.exc import SQLAlchemyError
from superset import db, security_manager
from superset.commands.chart.export import ExportChartsCommand
from superset.commands.chart.importers.v1.utils import import_chart
from superset.commands.dashboard.export import ExportDashboardsCommand
from superset.commands.dashboard.importers.v1.utils import import_dashboard, update_id_refs
from superset.commands.dataset.export import ExportDatasetsCommand
from superset.commands.dataset.importers.v1.utils import import_dataset
from superset.commands.utils import update_chart_config_dataset
from superset.connectors.sqla.models import SqlaTable
from superset.models.core import Database
from superset.models.dashboard import Dashboard, dashboard_slices
from superset.models.slice import Slice
from superset.utils.core import override_user

from dashboards.files import parse
from dashboards.layout import CHARTS, DASHBOARDS, DATABASE_UUID, DATASETS, SCHEMA, Asset, charts_of
from dashboards.normal import normal
from dashboards.record import PUT
from dashboards.roles import ADMIN
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_MODELS: dict[str, Any] = {DATASETS: SqlaTable, CHARTS: Slice, DASHBOARDS: Dashboard}
_EXPORTS: dict[str, Any] = {
    DATASETS: ExportDatasetsCommand,
    CHARTS: ExportChartsCommand,
    DASHBOARDS: ExportDashboardsCommand,
}


def find(kind: str, uuid: str) -> Asset | None:
    """Return the asset of that uuid as Superset exports it; None if there is none."""
    model = _model(kind, uuid)
    return model and _asset(kind, model)


def find_dashboards(names: Iterable[str]) -> list[Asset]:
    """Return these dashboards by title, with their charts and datasets; all if none is named.

    Raises :class:`Failure` for a title that there is not, or that several have.
    """
    wanted = list(names)
    models = db.session.query(Dashboard).all()
    if wanted:
        models = [one for name in wanted for one in _named(models, name)]
    found: dict[str, Asset] = {}
    for dashboard in models:
        _add(found, _asset(DASHBOARDS, dashboard))
        for chart in dashboard.slices:
            _add(found, _asset(CHARTS, chart))
            if chart.table is not None:
                _add(found, _asset(DATASETS, chart.table))
    return list(found.values())


def _named(models: list[Any], name: str) -> list[Any]:
    found = [each for each in models if each.dashboard_title == name]
    if len(found) != 1:
        raise Failure(
            f"there are {len(found)} dashboards of the title {name!r}, expected one",
            "Give the title as Superset shows it; rename one of two.",
        )
    return found


def _add(found: dict[str, Asset], asset: Asset) -> None:
    found.setdefault(asset.uuid, asset)


def _model(kind: str, uuid: str) -> Any:
    return db.session.query(_MODELS[kind]).filter_by(uuid=UUID(uuid)).one_or_none()


def _asset(kind: str, model: Any) -> Asset:
    # It looks up the datasets of filters, which it does for somebody. What is written is written by
    # nobody, and so has no owner.
    with override_user(_administrator()):
        return Asset(kind, parse_export(_EXPORTS[kind]._file_content(model)))


def _administrator() -> Any:
    for user in security_manager.find_role(ADMIN).user:
        return user
    raise Failure("Superset has no administrator", "Run `dashboards migrate`.")


def parse_export(text: str) -> dict[str, Any]:
    """Return an export of Superset's as plain values."""
    content = parse(text)
    if not isinstance(content, dict):
        raise Failure("Superset exported something else than an object", "Report it.")
    return content


def write(asset: Asset) -> None:
    """Write ``asset`` into the session: make it, or overwrite it.

    Raises :class:`Failure` if what it names is not there, or Superset cannot take it.
    """
    config = copy.deepcopy(normal(asset))
    try:
        _WRITE[asset.kind](config)
        db.session.flush()
    except (SQLAlchemyError, LookupError, TypeError, ValueError, AttributeError) as error:
        # Superset's code expects what Superset has exported; the first line is the cause.
        cause = str(getattr(error, "orig", error)).strip().splitlines() or [""]
        raise Failure(
            f"Superset does not take {asset.file or asset}: {type(error).__name__}: {cause[0]}",
            "Export it from Superset again, and compare.",
        ) from error


def _not_of_another(kind: str, config: dict[str, Any], **unique: Any) -> None:
    """Raise :class:`Failure` if something else has these values, which only one may have.

    Superset's import would take that for what is imported, and overwrite it.
    """
    taken = db.session.query(_MODELS[kind]).filter_by(**unique).one_or_none()
    if taken is not None and str(taken.uuid) != config["uuid"]:
        name = " ".join(str(value) for key, value in unique.items() if not key.endswith("_id"))
        raise Failure(
            f"somebody made a {kind.removesuffix('s')} of {name} by hand",
            "Export it, and use its uuid in the files; or delete it in Superset.",
        )


def _write_dataset(config: dict[str, Any]) -> None:
    database = db.session.query(Database).filter_by(uuid=UUID(DATABASE_UUID)).one()
    _not_of_another(
        DATASETS,
        config,
        database_id=database.id,
        schema=SCHEMA,
        table_name=config["table_name"],
    )
    import_dataset(
        {
            "columns": [],
            "metrics": [],
            **config,
            "database_id": database.id,
            "catalog": database.get_default_catalog(),
        },
        overwrite=True,
        ignore_permissions=True,
    )


def _write_chart(config: dict[str, Any]) -> None:
    config.setdefault("params", {})
    dataset = _there(DATASETS, config["dataset_uuid"])
    facts = {
        "datasource_id": dataset.id,
        "datasource_type": "table",
        "datasource_name": dataset.table_name,
    }
    chart = update_chart_config_dataset(config, facts)
    import_chart(chart, overwrite=True, ignore_permissions=True)


def _write_dashboard(config: dict[str, Any]) -> None:
    ids = {uuid: _there(CHARTS, uuid).id for uuid in charts_of(config)}
    datasets = {
        str(each.uuid): {"datasource_id": each.id} for each in db.session.query(SqlaTable).all()
    }
    config.setdefault("metadata", {})
    if config.get("slug"):
        _not_of_another(DASHBOARDS, config, slug=config["slug"])
    dashboard = import_dashboard(
        update_id_refs(config, ids, datasets), overwrite=True, ignore_permissions=True
    )
    db.session.execute(
        delete(dashboard_slices).where(dashboard_slices.c.dashboard_id == dashboard.id)
    )
    rows = [{"dashboard_id": dashboard.id, "slice_id": each} for each in ids.values()]
    db.session.execute(insert(dashboard_slices).values(rows))


_WRITE: dict[str, Callable[[dict[str, Any]], None]] = {
    DATASETS: _write_dataset,
    CHARTS: _write_chart,
    DASHBOARDS: _write_dashboard,
}


def _there(kind: str, uuid: str) -> Any:
    model = _model(kind, uuid)
    if model is None:
        raise Failure(
            f"Superset has no {kind.removesuffix('s')} {uuid}", "Put its file beside the others."
        )
    return model


def forget() -> None:
    """Read again what was read before, of this transaction's own rows."""
    db.session.flush()
    db.session.expire_all()


def put(name: str, value: str) -> None:
    """Write a value of the platform's own record, in the transaction of what was written."""
    db.session.connection().exec_driver_sql(PUT, (name, value))


@contextmanager
def transaction() -> Iterator[None]:
    """Make what the block wrote last, all of it, or nothing if it fails."""
    try:
        yield
        db.session.commit()
    except BaseException:
        db.session.rollback()
        raise

"""Brings Superset's database to this image's version, and its roles and connection to ours."""

from __future__ import annotations

import time
from importlib import metadata
from typing import TYPE_CHECKING

import psycopg

from dashboards import record
from frame import rights
from frame.failure import Failure
from frame.progress import step

if TYPE_CHECKING:
    from dashboards.settings import Settings

MIGRATED = "migrated"
# Who writes these becomes administrator, or sends readers to another database.
GUARDED = (
    "ab_user", "ab_role", "ab_user_role", "ab_permission_view_role",
    "ab_group", "ab_group_role", "ab_user_group", "ab_register_user", "dbs",
)  # fmt: skip
# A first migration takes a minute on 2 cores; one of a large installation may take ten.
WAIT = 900.0
PAUSE = 2.0


def image_version() -> str:
    """Return what a migrated database says that it was migrated to."""
    return metadata.version("apache-superset")


def migrate(settings: Settings) -> None:
    """Migrate, then set the connection to the warehouse, the roles and the first administrator.

    Any number may start at the same moment: they take turns, and all but the first find nothing to
    do. Raises :class:`Failure`; what a try did is kept, and the next one goes on from there.
    """
    admin = settings.read_admin()
    warehouse = settings.read_warehouse_uri()
    with record.opened(settings.read_metadata_uri()) as known:
        known.lock()
        known.make()
        from dashboards.application import superset

        with superset():
            from dashboards import accounts

            with step("migrate Superset's database"):
                _upgrade()
            with step("set roles, the warehouse and the administrator"):
                accounts.set_warehouse(warehouse)
                accounts.set_roles()
                accounts.set_administrator(admin["username"], admin["password"])
        # Every job's role may write the rows of every other table; those of new tables too.
        for said in rights.guard(known.connection.cursor(), GUARDED, settings.web_role):
            print(said, flush=True)
        known.put(MIGRATED, image_version())


def _upgrade() -> None:
    from flask_migrate import upgrade
    from superset.extensions import APP_DIR

    upgrade(directory=f"{APP_DIR}/migrations")


def wait(settings: Settings, version: str, seconds: float = WAIT) -> None:
    """Return when the database is migrated to ``version``, this image's.

    Raises :class:`Failure` if it is not within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while (there := _migrated(settings, deadline)) != version:
        if time.monotonic() > deadline:
            raise Failure(
                f"after {seconds:.0f} s Superset's database is at {there or 'no version'}, "
                f"and this image is {version}",
                "Look at the job superset-migrate; run it if it is of another image.",
            )
        time.sleep(PAUSE)


def _migrated(settings: Settings, deadline: float) -> str | None:
    patience = max(deadline - time.monotonic(), 0)
    try:
        with record.opened(settings.read_metadata_uri(), patience=patience) as known:
            return known.get(MIGRATED)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InsufficientPrivilege):
        return None  # a database that nobody has migrated yet

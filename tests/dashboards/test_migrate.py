from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from dashboards.migrate import wait
from dashboards.settings import Settings
from frame.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dashboards.service import Service

pytestmark = pytest.mark.programs


def test_another_migration_changes_what_differs_and_nothing_else(
    superset: Service, tmp_path: Path
) -> None:
    """The warehouse moved, and somebody gave a role a permission by hand."""
    tables = ("ab_user", "ab_role", "ab_permission_view_role", "dbs")
    count = " UNION ALL ".join(f"SELECT count(*) FROM {name}" for name in tables)
    before = superset.query(count)
    superset.query(
        "INSERT INTO ab_permission_view_role (id, permission_view_id, role_id)"
        " SELECT nextval('ab_permission_view_role_id_seq'), pv.id, r.id FROM ab_role r,"
        " ab_permission_view pv JOIN ab_permission p ON p.id = pv.permission_id"
        " JOIN ab_view_menu v ON v.id = pv.view_menu_id WHERE r.name = 'leadership'"
        " AND p.name = 'can_execute_sql_query' AND v.name = 'SQLLab'"
    )
    assert superset.query(count) != before
    moved = tmp_path / "warehouse"
    moved.write_text((superset.home / "warehouse").read_text().replace("127.0.0.1", "localhost"))
    done = superset.run(
        "migrate",
        DASHBOARDS_METADATA_URI_FILE=str(superset.home / "migrate"),
        DASHBOARDS_ADMIN_FILE=str(superset.home / "admin.json"),
        DASHBOARDS_WAREHOUSE_URI_FILE=str(moved),
    )
    assert done.returncode == 0, done.stderr
    ((uri,),) = superset.query("SELECT sqlalchemy_uri FROM dbs")
    assert "@localhost:" in uri
    assert superset.query(count) == before
    for secret in (superset.password, superset.warehouse, superset.key):
        assert secret not in done.stdout + done.stderr + uri
    superset.query("UPDATE dbs SET sqlalchemy_uri = %s", uri.replace("@localhost:", "@127.0.0.1:"))


def test_what_waits_goes_on_once_it_is_migrated(superset: Service) -> None:
    with psycopg.connect((superset.home / "migrate").read_text().strip()) as connection:
        known = connection.execute("SELECT value FROM harmattan_record WHERE name = 'migrated'")
        assert known.fetchone() == ("6.1.0",)
    done = superset.run("wait")
    assert done.returncode == 0, done.stderr


def test_what_waits_in_vain_says_for_what(superset: Service, tmp_path: Path) -> None:
    empty = f"empty_{secrets.token_hex(3)}"
    with psycopg.connect(superset.server.uri(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(empty)))
    uri = tmp_path / "uri"
    uri.write_text(superset.server.uri(empty))
    settings = Settings.from_environment({"DASHBOARDS_METADATA_URI_FILE": str(uri)})
    with pytest.raises(Failure, match=r"is at no version, and this image is 6\.1\.0") as raised:
        wait(settings, "6.1.0", seconds=0.1)
    assert superset.server.password not in str(raised.value)

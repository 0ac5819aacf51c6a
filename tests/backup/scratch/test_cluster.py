from __future__ import annotations

from typing import TYPE_CHECKING

from backup.scratch.cluster import SERVER_SETTINGS, preloaded
from backup.scratch.lease import Needs

if TYPE_CHECKING:
    from pathlib import Path

DURABILITY = {"fsync", "full_page_writes", "synchronous_commit", "wal_level", "max_wal_size"}


def test_durability_is_postgresqls_default() -> None:
    assert not DURABILITY & SERVER_SETTINGS.keys()


def test_pg_cron_is_told_its_database_and_only_what_is_installed_is_loaded(tmp_path: Path) -> None:
    needs = Needs(major=15, extensions=("pg_cron", "postgis", "timescaledb"), database="{odd} name")
    assert preloaded(needs, tmp_path) == {}
    (tmp_path / "pg_cron.so").touch()
    assert preloaded(needs, tmp_path) == {
        "shared_preload_libraries": "pg_cron",
        "cron.database_name": "{odd} name",
        "cron.log_run": "off",
    }
    (tmp_path / "timescaledb.so").touch()
    loaded = preloaded(needs, tmp_path)
    assert loaded["shared_preload_libraries"] == "pg_cron,timescaledb"
    assert preloaded(Needs(major=15), tmp_path) == {}

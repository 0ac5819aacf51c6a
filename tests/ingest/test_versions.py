"""Servers of other versions as the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.backup.clusters import cluster
from tests.ingest.test_origin import at

if TYPE_CHECKING:
    from tests.ingest.world import World


def test_what_postgresql_18_has_beside_older_ones_is_read(world: World) -> None:
    with cluster(18) as server, psycopg.connect(server.uri(), autocommit=True) as connection:
        for statement in (
            "CREATE TABLE t (id int PRIMARY KEY, mail text, phone text,"
            " twice int GENERATED ALWAYS AS (id * 2) VIRTUAL)",
            "INSERT INTO t VALUES (1, NULL, '12'), (2, 'ada@school.example', '34')",
            "ALTER TABLE t ADD CONSTRAINT has_mail NOT NULL mail NOT VALID",
            "ALTER TABLE t ALTER phone SET NOT NULL",
        ):
            connection.execute(statement.encode())
        here = at(world, server.uri())
        here.run()
        here.assert_same("public.t", "raw_hr.t")
        connection.execute("UPDATE t SET mail = 'bob@school.example' WHERE mail IS NULL")
        connection.execute("ALTER TABLE t VALIDATE CONSTRAINT has_mail")
        here.run()
        here.assert_same("public.t", "raw_hr.t")
    assert world.rows(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'raw_hr.t'::regclass"
        " AND attnum > 0 AND attnotnull ORDER BY attnum"
    ) == [("id",), ("mail",), ("phone",)]

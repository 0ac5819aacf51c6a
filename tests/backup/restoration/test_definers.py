from __future__ import annotations

import psycopg

from backup.postgres.connection import PostgresUri
from backup.restoration.definers import definers, keep_from_others

PUBLIC = """
SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
AND has_function_privilege('pg_monitor', oid, 'EXECUTE') ORDER BY 1
"""


def test_what_runs_with_the_owners_rights_is_run_by_nobody_else(database: str) -> None:
    with PostgresUri(database, "the test").connect("test") as connection:
        make = "CREATE FUNCTION public.{} RETURNS int LANGUAGE sql {} AS 'SELECT 1'"
        connection.execute(make.format("old()", "SECURITY DEFINER").encode())
        before = definers(connection)
        connection.execute(make.format('"n\new"(a int, OUT b int)', "SECURITY DEFINER").encode())
        connection.execute(make.format("plain()", "").encode())
        (told,) = keep_from_others(connection, before)
        assert told.startswith("would run with your rights, so nobody else may run it: public.")
    with psycopg.connect(database) as connection:
        assert connection.execute(PUBLIC).fetchall() == [("old",), ("plain",)]

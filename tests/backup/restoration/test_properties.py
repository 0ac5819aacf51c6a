from __future__ import annotations

import psycopg

from backup.restoration.properties import apply, sort_properties

SCRIPT = r"""
\restrict abc
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
CREATE DATABASE "a b" WITH TEMPLATE = template0 ENCODING = 'UTF8';
ALTER DATABASE "a b" OWNER TO "Ow ner";
\unrestrict abc
\connect -reuse-previous=on "dbname='a b'"
COMMENT ON DATABASE "a b" IS 'so; it''s DATABASE "a b"';
ALTER DATABASE "a b" CONNECTION LIMIT = 5;
ALTER DATABASE "a b" IS_TEMPLATE = true;
ALTER DATABASE "a b" SET search_path TO 'q r', 'public';
ALTER DATABASE "a b" SET default_transaction_read_only TO 'on';
ALTER ROLE database IN DATABASE "a b" SET work_mem TO '5MB';
ALTER ROLE database IN DATABASE "a b" SET role TO 'x';
REVOKE CONNECT,TEMPORARY ON DATABASE "a b" FROM PUBLIC;
SET SESSION AUTHORIZATION x;
GRANT CONNECT ON DATABASE "a b" TO database;
RESET SESSION AUTHORIZATION;
DROP DATABASE "a b";
"""
SETTINGS = (
    "ALTER DATABASE \"new\" SET search_path TO 'q r', 'public'",
    "ALTER ROLE database IN DATABASE \"new\" SET work_mem TO '5MB'",
)
LATE = (
    'ALTER DATABASE "new" OWNER TO "Ow ner"',
    "COMMENT ON DATABASE \"new\" IS 'so; it''s DATABASE \"a b\"'",
    'ALTER DATABASE "new" CONNECTION LIMIT = 5',
    'ALTER DATABASE "new" IS_TEMPLATE = true',
    "ALTER DATABASE \"new\" SET default_transaction_read_only TO 'on'",
    "ALTER ROLE database IN DATABASE \"new\" SET role TO 'x'",
    'REVOKE CONNECT,TEMPORARY ON DATABASE "new" FROM PUBLIC',
    "SET SESSION AUTHORIZATION x",
    'GRANT CONNECT ON DATABASE "new" TO database',
    "RESET SESSION AUTHORIZATION",
)


def test_settings_come_before_the_load_and_the_rest_after_it() -> None:
    properties = sort_properties(SCRIPT, "new", owners=True)
    assert properties.settings == SETTINGS
    assert properties.late == LATE


def test_without_owners_there_are_no_rights() -> None:
    properties = sort_properties(SCRIPT, "new", owners=False)
    assert properties.settings == SETTINGS
    assert properties.late == LATE[1:6]


def test_a_statement_that_is_refused_ends_no_other(database: str) -> None:
    name = database.rpartition("/")[2]
    with psycopg.connect(database, autocommit=True) as connection:
        refused = apply(
            connection,
            [
                f"ALTER DATABASE {name} SET work_mem TO '7MB'",
                f"ALTER DATABASE {name} SET nonsense TO 'x'",
                f"ALTER DATABASE {name} OWNER TO nobody_at_all",
                f"COMMENT ON DATABASE {name} IS 'ɛ'",
            ],
        )
        assert [each.partition('"')[0] for each in refused] == [
            "unrecognized configuration parameter ", "role ",
        ]  # fmt: skip
        about = """SELECT setconfig, shobj_description(setdatabase, 'pg_database')
        FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = %s"""
        assert connection.execute(about, [name]).fetchall() == [(["work_mem=7MB"], "ɛ")]

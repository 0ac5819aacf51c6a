"""A warehouse where pipelines ran, and the platform's own login that looks at it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from ingest import ops
from scripts.local import databases

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

RUNS = """
    INSERT INTO ops.runs (pipeline, run_id, started_at, finished_at, status, step, "table", error)
    VALUES ('hr', 'old', now() - interval '1 day', now() - interval '1 day', 'failed', 'load',
            NULL, 'gone'),
           ('hr', 'new', now() - interval '7 hours', now() - interval '7 hours', 'success', NULL,
            NULL, NULL),
           ('service_desk', 'new', now() - interval '7 hours', now() - interval '7 hours',
            'failed', 'check', 'raw_service_desk.tickets',
            'unique (ticket_id): expected no two rows, found 12 keys');
    INSERT INTO ops.tables (pipeline, run_id, "table", source, load, reason, status, rows)
    VALUES ('hr', 'old', 'raw_hr.employees', 'public.employees', 'full', 'x', 'failed', 1),
           ('hr', 'new', 'raw_hr.employees', 'public.employees', 'full', 'x', 'published', 432),
           ('hr', 'new', 'raw_hr.payroll', 'public.payroll', 'full', 'x', 'published', 7000),
           ('service_desk', 'new', 'raw_service_desk.people', 'public.people', 'full', 'x',
            'published', 500),
           ('service_desk', 'new', 'raw_service_desk.tickets', 'public.tickets', 'full', 'x',
            'failed', 9);
    INSERT INTO ops.checks (pipeline, run_id, "table", "check", passed, expected, found, samples)
    VALUES ('hr', 'old', 'raw_hr.employees', 'rows', false, 'some', 'none', '{}'),
           ('service_desk', 'new', 'raw_service_desk.people', 'rows', true, 'some', '500', '{}'),
           ('service_desk', 'new', 'raw_service_desk.tickets', 'unique (ticket_id)', false,
            'no two rows', '12 keys', ARRAY(SELECT n::text FROM generate_series(0, 11) n));
"""


def make_warehouse(server: PostgresServer, name: str, *, runs: bool = True) -> str:
    """Make the database ``name`` as the platform does; return the URI of the login that looks."""
    loader, role = f"{name}_loader", f"{name}_report"
    password = secrets.token_urlsafe(12)
    with psycopg.connect(server.uri(), autocommit=True) as connection:
        made = sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))
        connection.execute(made)
    with psycopg.connect(server.uri(name), autocommit=True) as connection:
        for each in (loader, role):
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(each), sql.Literal(password)
                )
            )
        connection.execute(
            sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
        )
        connection.execute(
            sql.SQL(databases.CONNECT + databases.REPORT).format(
                database=sql.Identifier(name),
                role=sql.Identifier(role),
                loader=sql.Identifier(loader),
            )
        )
        connection.execute("CREATE SCHEMA raw_hr; CREATE TABLE raw_hr.employees (id int)")
        if runs:
            connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(loader)))
            for statement in ops.TABLES.values():
                connection.execute(statement)
            connection.execute(RUNS)
    return f"postgresql://{role}:{password}@127.0.0.1:{server.port}/{name}"

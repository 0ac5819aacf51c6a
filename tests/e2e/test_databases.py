"""Each job's database role does its own work and nothing else, tried with its real URI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import psycopg.errors
import pytest

from scripts.local import databases

if TYPE_CHECKING:
    from scripts.access import Access

DDL = "CREATE TABLE public.e2e (id int)"
COUNT_USERS = "SELECT count(*) FROM ab_user"
TOUCH_RUNS = "UPDATE dag_run SET state = state WHERE false"
DELETE_RUNS = "DELETE FROM dag_run WHERE false"
TOUCH_USERS = "UPDATE ab_user SET active = true WHERE false"
TOUCH_CONNECTIONS = "DELETE FROM connection WHERE false"
ADD_STAFF = "UPDATE employees SET id = id WHERE false"
COUNT_STAFF = "SELECT count(*) FROM employees"
TEMPORARY = "CREATE TEMPORARY TABLE e2e (id int)"
READ_LOADED = "SELECT count(*) FROM raw_hr.employees"
WRITE_LOADED = "DELETE FROM raw_hr.employees WHERE false"
READ_MARTS = "SELECT count(*) FROM marts.open_tickets_by_kind"
CHANGE_DASHBOARDS = "UPDATE dashboards SET slug = slug WHERE false"
READ_OPS = "SELECT count(*) FROM ops.runs"
WRITE_MARTS = "CREATE TABLE marts.e2e (id int)"
WRITE_LOADS = "CREATE TABLE load_lists.e2e (id int); CREATE TABLE load_lists_staging.e2e (id int)"
CREATE_SCHEMA = "CREATE SCHEMA e2e"
AS_ANALYST = "SET ROLE warehouse_analyst"

# Role: what it may, what it may not. Nothing of it is committed.
TABLE = {
    "airflow_migrate": ([DDL, TOUCH_USERS], []),
    "airflow_webserver": ([COUNT_USERS, TOUCH_USERS, TOUCH_RUNS], [DDL, TEMPORARY]),
    "airflow_scheduler": ([TOUCH_RUNS], [DDL, TOUCH_USERS, TOUCH_CONNECTIONS, TEMPORARY]),
    "airflow_dag_processor": ([TOUCH_RUNS], [DDL, TOUCH_USERS, TOUCH_CONNECTIONS, TEMPORARY]),
    "airflow_triggerer": ([TOUCH_RUNS], [DDL, TOUCH_USERS, TOUCH_CONNECTIONS, TEMPORARY]),
    "airflow_clean": (
        [DELETE_RUNS, "DELETE FROM session WHERE false"],
        [DDL, COUNT_USERS, TOUCH_RUNS, TOUCH_USERS, TOUCH_CONNECTIONS, TEMPORARY],
    ),
    "airflow_backup": ([COUNT_USERS], [DDL, TOUCH_RUNS, TEMPORARY]),
    "hr_ingest": ([COUNT_STAFF], [DDL, ADD_STAFF, TEMPORARY]),
    "hr_backup": ([COUNT_STAFF], [DDL, ADD_STAFF, TEMPORARY]),
    "superset_migrate": ([DDL, CHANGE_DASHBOARDS], []),
    "superset_web": ([CHANGE_DASHBOARDS, TOUCH_USERS], [DDL, TEMPORARY]),
    "superset_dashboards": ([CHANGE_DASHBOARDS], [DDL, TOUCH_USERS, TEMPORARY]),
    "superset_backup": ([], [DDL, CHANGE_DASHBOARDS, TEMPORARY]),
    "bi": ([READ_MARTS], [DDL, TEMPORARY, READ_LOADED, READ_OPS, WRITE_MARTS, WRITE_LOADED]),
    "warehouse_loader": ([READ_LOADED, WRITE_LOADED, AS_ANALYST], [DDL, WRITE_MARTS]),
    "warehouse_checks": (
        [READ_LOADED],
        [DDL, TEMPORARY, WRITE_MARTS, WRITE_LOADED, WRITE_LOADS, AS_ANALYST],
    ),
    "warehouse_analyst": (
        [READ_LOADED, WRITE_MARTS, WRITE_LOADS, TEMPORARY],
        [DDL, WRITE_LOADED, CREATE_SCHEMA],
    ),
    "warehouse_backup": ([READ_LOADED], [DDL, WRITE_LOADED, WRITE_MARTS]),
}


def allowed(role: str, statement: str) -> bool:
    with psycopg.connect(databases.role(role).uri, connect_timeout=10) as connection:
        try:
            connection.execute(statement)  # type: ignore[arg-type]
        except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
            return False
        finally:
            connection.rollback()
    return True


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("role", TABLE)
def test_a_role_does_its_own_work_and_nothing_else(role: str) -> None:
    may, may_not = TABLE[role]
    assert [statement for statement in may if not allowed(role, statement)] == []
    assert [statement for statement in may_not if allowed(role, statement)] == []


@pytest.mark.parametrize("role", [found.name for found in databases.roles()])
def test_a_role_connects_to_its_own_database_only(platform: Access, role: str) -> None:
    own = databases.role(role)
    opened = []
    for database in databases.DATABASES:
        uri = own.uri.removesuffix(own.database) + database
        try:
            psycopg.connect(uri, connect_timeout=10).close()
        except psycopg.OperationalError as error:
            assert "permission denied for database" in str(error)
        else:
            opened.append(database)
    # `postgres` holds nothing and is open to all: the observer logs in there, and nowhere else.
    mine = [own.database] if own.database in databases.DATABASES else []
    assert opened == mine, platform.environment

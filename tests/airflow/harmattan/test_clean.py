"""Old rows of a real Airflow database, deleted by the role that is made for it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import psycopg.errors
import pytest
from psycopg import sql

from scripts.local.databases import CLEAN, CONNECT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tests.conftest import PostgresServer

pytestmark = [pytest.mark.programs, pytest.mark.slow]

FAB = "airflow.providers.fab.auth_manager"
# What harmattan.migrate does with the schema's tables, twice.
PREPARE = """
import sys
from harmattan import migrate
for _ in range(2):
    migrate.guard(*sys.argv[1:])
migrate.warn_of_secrets(sys.argv[1])
"""
NAMES = "from airflow.utils.db_cleanup import config_dict; print('cleaned:', *config_dict)\n"
# Locks are waited for a second, that a test may wait too.
RUN = """
from harmattan import clean
clean.BOUNDS, clean.BATCH = clean.BOUNDS.replace("10s", "1s"), 2
clean.main()
"""
OUT_OF_TIME = RUN.replace("clean.main()", "clean.LIMIT = -1.0; clean.main()")
# By hand, or bounded by what the files of DAGs, the bundles and the settings name.
STAYS = {
    *("connection", "variable", "slot_pool", "team", "dag_bundle_team", "asset_state_store"),
    *("backfill", "backfill_dag_run"),
    *("asset", "asset_active", "asset_alias", "asset_alias_asset"),
    *("dag_bundle", "dag_priority_parsing_request", "log_template"),
    *("alembic_version", "alembic_version_fab"),
}
# A DAG with a run of each age, in days: the newest that its schedule made is 200 days old.
SEED = """
INSERT INTO dag_bundle (name) VALUES ('analysts');
INSERT INTO dag (dag_id, is_paused, is_stale, bundle_name, timetable_type, partition_mapper_info,
  max_active_tasks, max_consecutive_failed_dag_runs, has_task_concurrency_limits, last_parsed_time)
  VALUES ('report', false, false, 'analysts', '', '{}', 16, 0, false, now());
INSERT INTO dag_version (id, version_number, dag_id, created_at, last_updated)
  SELECT gen_random_uuid(), n, 'report', now() - interval '1 day' * (401 - n), now()
  FROM generate_series(1, 3) n;
INSERT INTO dag_run (dag_id, run_id, run_type, run_after, start_date, created_dag_version_id)
  SELECT 'report', 'run ' || age, CASE WHEN age < 200 THEN 'manual' ELSE 'scheduled' END,
    now() - interval '1 day' * age, now() - interval '1 day' * age, id
  FROM dag_version, unnest('{400,300,201,200,100,91,89,0}'::int[]) age WHERE version_number = 2;
INSERT INTO task_instance (id, task_id, dag_id, run_id, try_number, pool, pool_slots, start_date,
  dag_version_id)
  SELECT gen_random_uuid(), 'load', dag_id, run_id, 1, '', 1, start_date, created_dag_version_id
  FROM dag_run;
INSERT INTO task_instance_history (task_instance_id, task_id, dag_id, run_id, try_number, pool,
  pool_slots, start_date)
  SELECT gen_random_uuid(), task_id, dag_id, run_id, 0, '', 1, start_date FROM task_instance;
INSERT INTO xcom (dag_run_id, task_id, key, dag_id, run_id, timestamp)
  SELECT id, 'load', 'return_value', dag_id, run_id, start_date FROM dag_run;
INSERT INTO log (event, dttm) SELECT run_id, start_date FROM dag_run;
INSERT INTO job (latest_heartbeat) SELECT start_date FROM dag_run;
INSERT INTO import_error (timestamp) SELECT start_date FROM dag_run;
INSERT INTO session (session_id, expiry) SELECT run_id, start_date FROM dag_run;
INSERT INTO revoked_token (jti, exp) SELECT run_id, start_date FROM dag_run;
INSERT INTO connection (conn_id, conn_type, is_encrypted, is_extra_encrypted)
  VALUES ('warehouse', 'postgres', false, false);
INSERT INTO variable (key, val, is_encrypted)
  VALUES ('api_key', 'x', false), ('year', '2026', false);
"""


@dataclass(frozen=True)
class Metadata:
    """Airflow's database, the role that cleans it, and how a program is run with either."""

    owner: str
    role: str
    uri: str
    program: Callable[..., subprocess.CompletedProcess[str]]
    cleaned: set[str] = field(default_factory=set)

    def run(self, code: str, *words: str, uri: str = "") -> subprocess.CompletedProcess[str]:
        return self.program(
            code,
            *words,
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=(uri or self.uri).replace(
                "postgresql:", "postgresql+psycopg2:"
            ),
            AIRFLOW__CORE__AUTH_MANAGER=f"{FAB}.fab_auth_manager.FabAuthManager",
            AIRFLOW__FAB__SESSION_BACKEND="database",
        )

    def prepare(self, code: str, role: str) -> str:
        """Give ``role`` its rights as the owner; return what was said."""
        done = self.run(code, self.owner, "nobody", role, uri=self.owner)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def ages(self, table: str, column: str) -> list[int]:
        """Return the age of each row of a table in days, the oldest first."""
        query = f"SELECT extract(day FROM now() - {column})::int FROM {table} ORDER BY 1 DESC"
        with psycopg.connect(self.owner) as connection:
            return [age for (age,) in connection.execute(query.encode())]


@pytest.fixture(scope="module")
def migrated(
    postgres: PostgresServer,
    metadata_database: Callable[[], str],
    airflow_program: Callable[..., subprocess.CompletedProcess[str]],
) -> Iterator[Metadata]:
    owner, role = metadata_database(), f"clean-{secrets.token_hex(4)}"
    database = owner.rpartition("/")[2]
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE ROLE {role} LOGIN PASSWORD 'cleaner';" + CONNECT + CLEAN).format(
                role=sql.Identifier(role), database=sql.Identifier(database)
            )
        )
        uri = f"postgresql://{role}:cleaner@127.0.0.1:{postgres.port}/{database}"
        metadata = Metadata(owner, role, uri, airflow_program)
        said = metadata.prepare(NAMES + PREPARE, role)
        assert f"{role} may delete old rows of 19 tables" in said
        (names,) = [line for line in said.splitlines() if line.startswith("cleaned: ")]
        metadata.cleaned.update(names.split()[1:])
        yield metadata
        connection.execute(
            sql.SQL("DROP OWNED BY {role} CASCADE; DROP ROLE {role}").format(
                role=sql.Identifier(role)
            )
        )


@pytest.fixture
def metadata(migrated: Metadata) -> Iterator[Metadata]:
    """The same with rows of many ages, which go again."""
    with psycopg.connect(migrated.owner, autocommit=True) as connection:
        connection.execute(SEED)
        yield migrated
        connection.execute("TRUNCATE dag_bundle, log, job, import_error, session CASCADE")
        connection.execute("TRUNCATE revoked_token, connection, variable CASCADE")


def test_old_rows_go_and_new_ones_stay_and_the_last_scheduled_run_with_them(
    metadata: Metadata,
) -> None:
    done = metadata.run(RUN, "90")
    assert done.returncode == 0, done.stderr[-3000:]
    assert metadata.ages("dag_run", "start_date") == [200, 89, 0]
    for table, column in (
        ("task_instance", "start_date"),
        ("task_instance_history", "start_date"),
        ("xcom", "timestamp"),
        ("log", "dttm"),
        ("job", "latest_heartbeat"),
        ("import_error", "timestamp"),
        ("session", "expiry"),
        ("revoked_token", "exp"),
    ):
        assert metadata.ages(table, column) == [89, 0], table
        assert f"{table}: 6 rows deleted\n" in done.stdout
    assert "dag_run: 5 rows deleted\n" in done.stdout
    # A version that a run still has stays, and so does the newest.
    assert metadata.ages("dag_version", "created_at") == [399, 398]

    again = metadata.run(RUN, "90")
    assert again.returncode == 0
    assert again.stdout.startswith("0 rows older than 90 days deleted in ")


def test_a_row_that_is_locked_is_left_to_the_next_run(metadata: Metadata) -> None:
    """And a run that was killed left a table behind, which goes."""
    with psycopg.connect(metadata.uri, autocommit=True) as connection:
        connection.execute(f'CREATE TABLE "{metadata.role}"._airflow_deleted__log__1 (id int)')
    with psycopg.connect(metadata.owner) as busy:
        busy.execute("SELECT FROM log WHERE event = 'run 300' FOR UPDATE")
        done = metadata.run(RUN, "90")
    assert done.returncode == 1
    assert "log" in done.stderr
    assert "canceling statement due to lock timeout" in done.stderr
    assert "HINT:" in done.stderr
    assert "Traceback" not in done.stderr
    assert metadata.ages("dag_run", "start_date") == [200, 89, 0]
    assert 300 in metadata.ages("log", "dttm")
    assert metadata.run(RUN, "90").returncode == 0
    assert metadata.ages("log", "dttm") == [89, 0]
    with psycopg.connect(metadata.uri) as connection:
        left = connection.execute("SELECT FROM pg_tables WHERE schemaname = current_user")
        assert left.rowcount == 0


def test_a_run_that_takes_too_long_ends_between_two_batches(metadata: Metadata) -> None:
    done = metadata.run(OUT_OF_TIME, "90")
    assert done.returncode == 1
    assert "error: not all old rows could be deleted within" in done.stderr
    assert "HINT: Run it again" in done.stderr
    assert metadata.ages("log", "dttm")[0] == 400


def test_a_database_of_another_image_is_left_alone(metadata: Metadata) -> None:
    with psycopg.connect(metadata.owner, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'x' || version_num")
        try:
            done = metadata.run(RUN, "90")
        finally:
            connection.execute("UPDATE alembic_version SET version_num = substr(version_num, 2)")
    assert done.returncode == 1
    assert "another schema than this image" in done.stderr
    assert metadata.ages("log", "dttm")[0] == 400


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT FROM connection",
        "SELECT FROM variable",
        "SELECT FROM ab_user",
        "DELETE FROM connection",
        "DELETE FROM ab_user",
        "UPDATE dag_run SET state = 'success'",
        "INSERT INTO session (session_id) VALUES ('forged')",
        "UPDATE session SET data = NULL",
        "CREATE TABLE public.x (id int)",
        "CREATE FUNCTION public.x() RETURNS int LANGUAGE sql RETURN 1",
    ],
)
def test_the_role_does_nothing_else(migrated: Metadata, statement: str) -> None:
    denied = pytest.raises(psycopg.errors.InsufficientPrivilege)
    with psycopg.connect(migrated.uri) as connection, denied:
        connection.execute(statement.encode())


def test_every_table_of_airflow_is_cleaned_or_goes_with_one_that_is_or_does_not_grow(
    migrated: Metadata,
) -> None:
    gone = set(migrated.cleaned)
    with psycopg.connect(migrated.owner) as connection:
        keys = connection.execute(
            "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint"
            " WHERE contype = 'f' AND confdeltype = 'c'"
        ).fetchall()
        tables = {
            name
            for (name,) in connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            )
        }
    while found := {child for child, parent in keys if parent in gone} - gone:
        gone |= found
    stays = {table for table in tables - gone if not table.startswith("ab_")}
    assert stays == STAYS


def test_a_start_names_secrets_in_airflows_own_database_and_a_role_that_is_not_there(
    metadata: Metadata,
) -> None:
    said = metadata.prepare(PREPARE, "not-there")
    assert "there is no role not-there: nothing old is deleted" in said
    assert [line.split(" stands")[0] for line in said.splitlines() if "warning" in line] == [
        "warning: the connection warehouse",
        "warning: the variable api_key",
    ]

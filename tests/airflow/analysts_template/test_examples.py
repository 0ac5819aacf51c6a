"""The template's examples, copied into dags/ as analysts do, and run by a whole Airflow."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from tests.airflow.delivery.test_importer import examined
from tests.airflow.harmattan.runs.cluster import until
from tests.airflow.harmattan.stack import Stack, stack
from tests.mail_server import MailServer, mail_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

TEMPLATE = Path(__file__).parents[3] / "airflow" / "analysts-template"
EXAMPLES = sorted(path.stem for path in (TEMPLATE / "examples").glob("*.py"))
# A moment that is long gone: a deadline after it is missed at once.
DUE = "2026-10-05T04:00:00Z"
# As much of what the pipeline of the service desk publishes as the examples ask for.
WAREHOUSE = """
    CREATE SCHEMA marts; CREATE SCHEMA raw_service_desk;
    CREATE TABLE raw_service_desk.assets AS SELECT 1 AS id, 'Laptop' AS kind;
    CREATE TABLE raw_service_desk.tickets AS
    SELECT n AS id, 1 AS asset_id, 'high' AS priority, 'open' AS status,
           timestamptz '2026-10-01 12:00Z' + n % 2 * interval '1 day' AS opened_at
    FROM generate_series(1, 5) n;
"""


@dataclass
class School:
    """An Airflow that runs the examples, their warehouse and their mail server."""

    airflow: Stack
    warehouse: str
    mails: MailServer

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute(query.encode()).fetchall()

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/return_value"
        return self.airflow.api("GET", f"{path}?deserialize=true")["value"]

    def days_done(self, *, beyond: int) -> int:
        """Wait until both days of the backfill are done in a later try; return the last try."""
        done = (
            "SELECT try_number FROM task_instance WHERE dag_id = 'each_day'"
            " AND run_id LIKE 'backfill%%' AND state = 'success' AND try_number > %s"
        )
        until(lambda: len(self.airflow.rows(done, beyond)) == 2)
        return max(number for (number,) in self.airflow.rows(done, beyond))

    def mailed(self, subject: str) -> str:
        """Wait for the one mail with this subject and return its text."""
        (text,) = until(lambda: [each for each in self.mails.mails if each["Subject"] == subject])
        assert text["To"] == "it-analytics@school.example"
        return str(text.get_body(("html",)).get_content())


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository from the template whose dags/ has all the examples."""
    root = tmp_path_factory.mktemp("repository") / "repository"
    shutil.copytree(TEMPLATE, root, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    for name in EXAMPLES:
        shutil.copy(root / f"examples/{name}.py", root / f"dags/{name}.py")
    (root / "dags/models.py").unlink()  # takes a dbt
    return root


@pytest.fixture(scope="module")
def school(
    repository: Path,
    postgres: PostgresServer,
    metadata_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[School]:
    home, warehouse = tmp_path_factory.mktemp("airflow"), postgres.create_database()
    with psycopg.connect(warehouse) as connection:
        connection.execute(WAREHOUSE)
    with ExitStack() as ending:
        mails = ending.enter_context(mail_server())
        smtp = f"smtp://127.0.0.1:{mails.port}/?from_email=airflow%40school.example"
        airflow = ending.enter_context(
            stack(
                home, repository, metadata_database(),
                AIRFLOW_CONN_WAREHOUSE=warehouse.replace("postgresql:", "postgres:"),
                AIRFLOW_CONN_SMTP_DEFAULT=f"{smtp}&disable_ssl=true&disable_tls=true",
            )
        )  # fmt: skip
        airflow.start_api()
        airflow.start_triggerer()
        airflow.api("GET", "version")  # from here on tasks find it
        # The clock starts no run of its own beside those that are asked for, whatever the hour.
        airflow.change("UPDATE dag SET next_dagrun_create_after = NULL")
        airflow.start_scheduler()
        yield School(airflow, warehouse, mails)


def test_the_gate_takes_each_of_them(repository: Path) -> None:
    said = examined(repository, "analysts")
    assert [each["finding"] for each in said if "finding" in each] == []
    (complete,) = [each["complete"] for each in said if "complete" in each]
    assert complete["files"] == complete["dags"]
    read = {each["importing"] for each in said if "importing" in each}
    assert {f"dags/{name}.py" for name in EXAMPLES} <= read


def test_a_task_a_table_that_is_there_today(school: School) -> None:
    school.airflow.trigger("each_table", "r")
    assert school.airflow.ended("each_table", "r") == "success"
    query = "SELECT count(*) FROM task_instance WHERE dag_id = 'each_table' AND task_id = 'count'"
    assert school.airflow.rows(query) == [(2,)]
    assert school.result("each_table", "r", "summary") == {"assets": 1, "tickets": 5}


def test_a_sensor_waits_for_another_dag_without_a_worker(school: School) -> None:
    school.airflow.trigger("wait_for_report", "r", DUE)
    query = "SELECT 1 FROM task_instance WHERE task_id = 'ready' AND state = 'deferred'"
    until(lambda: school.airflow.rows(query))
    school.airflow.trigger("school_report", "r", DUE)
    assert school.airflow.ended("wait_for_report", "r") == "success"
    assert school.ask("SELECT tickets FROM marts.open_tickets_by_kind") == [(5,)]


def test_a_dag_runs_when_all_its_tables_were_published(school: School) -> None:
    known = {each["name"]: each["id"] for each in school.airflow.api("GET", "assets")["assets"]}
    for name, rows in (("tickets", 5), ("assets", 1)):
        assert school.airflow.rows("SELECT 1 FROM dag_run WHERE dag_id = 'after_pipeline'") == []
        event = {"asset_id": known[f"raw_service_desk.{name}"], "extra": {"rows": rows}}
        school.airflow.api("POST", "assets/events", event)
    find = "SELECT run_id FROM dag_run WHERE dag_id = 'after_pipeline'"
    ((run_id,),) = until(lambda: school.airflow.rows(find))
    assert school.airflow.ended("after_pipeline", run_id) == "success"
    published = {"raw_service_desk.tickets": 5, "raw_service_desk.assets": 1}
    assert school.result("after_pipeline", quote(run_id), "checked") == published
    query = "SELECT 1 FROM asset_event e JOIN asset a ON a.id = asset_id WHERE name = %s"
    assert school.airflow.rows(query, "service_desk_checked") == [(1,)]


def test_a_backfill_gives_each_day_its_own_rows_however_often(school: School) -> None:
    asked = {
        "dag_id": "each_day", "from_date": "2026-10-01T00:00:00Z",
        "to_date": "2026-10-02T00:00:00Z",
    }  # fmt: skip
    school.airflow.api("POST", "backfills", asked)
    days = "SELECT opened FROM marts.tickets_by_day WHERE day <= '2026-10-02' ORDER BY day"
    tries = school.days_done(beyond=0)
    assert school.ask(days) == [(2,), (3,)]
    cleared = {"dry_run": False, "only_failed": False}
    school.airflow.api("POST", "dags/each_day/clearTaskInstances", cleared)
    school.days_done(beyond=tries)
    assert school.ask(days) == [(2,), (3,)]


def test_a_mail_says_that_a_run_is_late_and_the_run_goes_on(school: School) -> None:
    school.airflow.trigger("deadline", "late", DUE)
    assert "The run late is not done yet" in school.mailed("deadline is late")
    assert school.airflow.ended("deadline", "late") == "success"


def test_a_figure_is_mailed_and_so_is_a_task_that_failed_for_good(school: School) -> None:
    school.airflow.trigger("mail", "good")
    assert school.airflow.ended("mail", "good") == "success"
    assert "5 tickets are open" in school.mailed("Open tickets")
    with psycopg.connect(school.warehouse) as connection:
        connection.execute("ALTER TABLE raw_service_desk.tickets RENAME TO gone")
    school.airflow.trigger("mail", "bad")
    assert school.airflow.ended("mail", "bad") == "failed"
    assert f"{school.airflow.address}/dags/mail/runs/bad" in school.mailed("mail failed")
    query = "SELECT try_number FROM task_instance WHERE run_id = 'bad' AND state = 'failed'"
    assert school.airflow.rows(query) == [(4,)]

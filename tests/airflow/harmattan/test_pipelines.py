"""The DAGs that pipeline files become, parsed and run by a real Airflow with a real database."""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingest import run
from ingest.errors import CheckFailedError
from tests.airflow.harmattan.running import environment, running
from tests.conftest import free_port
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from pathlib import Path

    from tests.airflow.harmattan.running import Airflow
    from tests.conftest import PostgresServer
    from tests.ingest.world import World

pytestmark = pytest.mark.slow

LOADER = '''"""Airflow DAGs of the pipelines."""

from pathlib import Path

from harmattan.pipelines import pipeline_dags

globals().update(pipeline_dags(Path(__file__).parent / "pipelines"))
'''
BY_HAND = '''"""A DAG of somebody's own with a pipeline in it."""

from datetime import datetime
from pathlib import Path

from airflow.sdk import dag, task

from harmattan.pipelines import pipeline_group


@dag(schedule=None, start_date=datetime(2026, 1, 1))
def by_hand():
    @task
    def before():
        return "before"

    @task
    def after():
        return "after"

    before() >> pipeline_group(Path(__file__).parent / "pipelines" / "hr.yaml") >> after()


by_hand()
'''
PARSE = """
import json, sys
from pathlib import Path
found = []
from airflow.dag_processing.dagbag import BundleDagBag
from airflow.serialization.serialized_objects import DagSerialization
for root in map(Path, sys.argv[1:]):
    bag = BundleDagBag(dag_folder=str(root), bundle_path=root, bundle_name="pipelines")
    dags = {dag.dag_id: DagSerialization.to_dict(dag)["dag"] for dag in bag.dags.values()}
    found.append({"dags": dags, "errors": bag.import_errors})
print("RESULT" + json.dumps(found))
"""


def parse(*roots: Path, home: Path) -> Any:
    """Return what a fresh interpreter finds, without any database or connection."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE, *map(str, roots)],
        check=False,
        capture_output=True,
        text=True,
        cwd=home,
        env=environment(home),
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return json.loads(line.removeprefix("RESULT"))


def bundle(root: Path, *names: str) -> Path:
    (root / "pipelines").mkdir(parents=True)
    (root / "dags.py").write_text(LOADER)
    for name in names:
        (root / "pipelines" / f"{name}.yaml").write_text(
            f"source: {name}\nschema: raw_{name}\nschedule: '0 2 * * *'\nowner: people\n"
            "tables:\n  - name: public.*\n"
        )
    return root


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """What Airflow makes of a sound bundle and of one with broken files."""
    home = tmp_path_factory.mktemp("airflow")
    sound, broken = bundle(home / "sound", "hr", "records"), bundle(home / "broken", "hr")
    (broken / "pipelines" / "same.yaml").write_text((broken / "pipelines" / "hr.yaml").read_text())
    (sound / "by_hand.py").write_text(BY_HAND)
    whole = (sound / "pipelines" / "hr.yaml").read_text().replace("raw_hr", "raw_whole")
    (sound / "pipelines" / "whole.yaml").write_text(f"publish: together\n{whole}")
    (broken / "pipelines" / "bad.yaml").write_text("source: hr\nload: full\n")
    first, second = parse(sound, broken, home=home)
    return first, second


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, roles: dict[str, str]
) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    root = bundle(home / "bundle")
    (root / "by_hand.py").write_text(BY_HAND)
    secrets = {*roles.values(), postgres.password}
    with running(home, root, postgres.create_database(), secrets) as found:
        yield found


@pytest.fixture
def school(world: World, airflow: Airflow) -> World:
    """Three tables at the source, and pipeline files that go into Airflow's bundle."""
    world.at_source(
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE b ()",
        "CREATE TABLE c (id int PRIMARY KEY, name text)",
        "INSERT INTO a VALUES (1), (2)",
        "INSERT INTO c SELECT n, 'Name ' || n FROM generate_series(1, 30) n",
    )
    return dataclasses.replace(world, folder=airflow.bundle / "pipelines")


def connections(world: World, **others: str) -> dict[str, str]:
    given = {"hr": world.source, "warehouse": world.warehouse} | others
    return {f"AIRFLOW_CONN_{name.upper()}": value for name, value in given.items()}


def only(posts: list[dict[str, Any]]) -> dict[str, Any]:
    (post,) = posts
    return post


def ops_run(world: World, run_id: str) -> tuple[Any, ...]:
    """Return status, step, table, and error with its hint, of a run."""
    query = (
        """SELECT status, step, "table", error || E'\\nHINT: ' || hint FROM ops.runs"""
        " WHERE (pipeline, run_id) = (%s, %s)"
    )
    (found,) = world.rows(query, "hr", run_id)
    return found


def test_each_pipeline_file_becomes_a_dag_that_serialises(parsed: tuple[Any, Any]) -> None:
    found, _ = parsed
    assert found["errors"] == {}
    assert sorted(found["dags"]) == ["by_hand", "ingest_hr", "ingest_records", "ingest_whole"]
    dag = found["dags"]["ingest_hr"]
    assert dag["timetable"]["__type"] == "airflow.timetables.trigger.CronTriggerTimetable"
    assert dag["timetable"]["__var"]["expression"] == "0 2 * * *"
    assert dag["timetable"]["__var"]["timezone"] == "UTC"
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)
    assert dag["is_paused_upon_creation"] is False
    assert sorted(dag["tags"]) == ["hr", "ingest"]


def test_a_pipeline_extracts_then_audits_and_publishes_each_table_then_finishes(
    parsed: tuple[Any, Any],
) -> None:
    dag = parsed[0]["dags"]["ingest_hr"]
    tasks = {task["__var"]["task_id"]: task["__var"] for task in dag["tasks"]}
    assert sorted(tasks) == ["hr.extract", "hr.finish", "hr.table.audit", "hr.table.publish"]
    followers = {name: task.get("downstream_task_ids", []) for name, task in tasks.items()}
    assert followers["hr.extract"] == ["hr.table.audit", "hr.table.publish"]
    assert followers["hr.table.audit"] == ["hr.table.publish"]
    assert followers["hr.table.publish"] == ["hr.finish"]
    group = dag["task_group"]["children"]["hr"][1]["children"]["hr.table"][1]
    assert group["is_mapped"] is True
    assert sorted(group["children"]) == ["hr.table.audit", "hr.table.publish"]
    assert tasks["hr.finish"]["trigger_rule"] == "all_done"
    pools = {name: task.get("pool", "default_pool") for name, task in tasks.items()}
    assert pools.pop("hr.extract") == "source_hr"
    assert set(pools.values()) == {"default_pool"}


def test_what_is_published_together_is_so_by_one_task_after_all_audits(
    parsed: tuple[Any, Any],
) -> None:
    tasks = [task["__var"] for task in parsed[0]["dags"]["ingest_whole"]["tasks"]]
    followers = {task["task_id"]: task.get("downstream_task_ids", []) for task in tasks}
    assert followers == {
        "whole.extract": ["whole.audit", "whole.publish"],
        "whole.audit": ["whole.publish"],
        "whole.publish": ["whole.finish"],
        "whole.finish": [],
    }


def test_every_task_of_a_pipeline_has_an_owner_a_limit_and_growing_delays_between_its_tries(
    parsed: tuple[Any, Any],
) -> None:
    tasks = [task["__var"] for task in parsed[0]["dags"]["ingest_hr"]["tasks"]]
    limits = {task["task_id"]: task["execution_timeout"] for task in tasks}
    assert limits.pop("hr.extract") == 4 * 3600
    assert limits.pop("hr.table.publish") == (1 + 6) * 3600, "it waits for readers, too"
    assert set(limits.values()) == {3600}
    for task in tasks:
        assert task["owner"] == "people"
        assert (task["retries"], task["retry_delay"], task["max_retry_delay"]) == (3, 30, 900)
        assert task["retry_exponential_backoff"] == 2


def test_a_pipeline_goes_into_a_dag_written_by_hand(parsed: tuple[Any, Any]) -> None:
    tasks = [task["__var"] for task in parsed[0]["dags"]["by_hand"]["tasks"]]
    followers = {task["task_id"]: task.get("downstream_task_ids", []) for task in tasks}
    assert followers["before"] == ["hr.extract"]
    assert followers["hr.finish"] == ["after"]


def test_a_broken_file_is_named_with_its_line(parsed: tuple[Any, Any]) -> None:
    _, found = parsed
    assert list(found["errors"]) == ["dags.py"]
    assert (
        "/broken/pipelines/bad.yaml:2: load: expected one of the keys source,"
        in (found["errors"]["dags.py"])
    )


def test_two_files_that_publish_into_one_schema_are_named(parsed: tuple[Any, Any]) -> None:
    _, found = parsed
    assert (
        "/broken/pipelines/same.yaml:2: schema: expected a schema of the pipeline's own, found"
        " raw_hr, as in " in (found["errors"]["dags.py"])
    )


def test_a_run_loads_every_table_and_its_source_gets_a_pool(
    airflow: Airflow, school: World
) -> None:
    school.file("public.*")
    found = airflow.run(**connections(school))
    assert found.state == "success"
    assert found.tasks == {
        "hr.extract": ("success", 1),
        **{
            f"hr.table.{step}[raw_hr.{table}]": ("success", 1)
            for step in ("audit", "publish")
            for table in "abc"
        },
        "hr.finish": ("success", 1),
    }
    assert found.returned == {"raw_hr.a": 2, "raw_hr.b": 0, "raw_hr.c": 30}
    for table in "abc":
        school.assert_same(f"public.{table}", f"raw_hr.{table}")
    assert ops_run(school, found.run_id) == ("success", None, None, None)
    assert airflow.rows("SELECT slots FROM slot_pool WHERE pool = 'source_hr'") == [(2,)]


def test_a_pipeline_in_a_dag_written_by_hand_loads_between_its_neighbours(
    airflow: Airflow, school: World
) -> None:
    school.file("public.a")
    found = airflow.run("by_hand", **connections(school))
    assert found.state == "success"
    assert found.tasks["after"] == ("success", 1)
    assert found.returned == {"raw_hr.a": 2}


def test_a_failed_check_holds_back_its_table_only_and_is_told_once_and_so_is_recovery(
    airflow: Airflow, school: World
) -> None:
    strict = "name: public.c\n    checks: {rows: {min: 1000}}"
    with http_server() as hook:
        given = connections(school, hook=f"{hook.url}/services/T0")
        school.file("public.a", "public.b", strict, head="alert: hook\n")
        failed = airflow.run(**given)
        told = only(hook.posts)
        hook.posts.clear()
        school.file("public.*", head="alert: hook\n")
        again = airflow.run(**given)
        recovered = only(hook.posts)
        hook.posts.clear()
        third = airflow.run(**given)
        assert hook.posts == []
    assert failed.state == "failed"
    assert failed.tasks["hr.table.audit[raw_hr.c]"] == ("failed", 1)  # trying again mends nothing
    assert failed.tasks["hr.table.publish[2]"] == ("upstream_failed", 0)
    assert failed.tasks["hr.finish"] == ("failed", 1)
    assert school.rows("SELECT count(*) FROM raw_hr.a") == [(2,)]
    assert ops_run(school, failed.run_id)[:3] == ("failed", "audit", "raw_hr.c")
    assert school.rows(
        'SELECT "table" FROM ops.tables WHERE (status, run_id) = (%s, %s) ORDER BY 1',
        "published",
        failed.run_id,
    ) == [("raw_hr.a",), ("raw_hr.b",)]
    reason = told.pop("reason")
    assert "table raw_hr.c: rows.min: expected at least 1000 rows, found 30" in reason
    assert "HINT: " in reason
    log_url = told.pop("log_url")
    assert log_url.startswith("https://airflow.example.org/dags/ingest_hr/runs/manual__")
    assert log_url.endswith("/tasks/hr.table.audit/mapped/2")
    assert told.pop("at") < recovered.pop("at")
    same = {"pipeline": "hr", "source": "hr", "schema": "raw_hr", "owner": "people-analytics"}
    where = {"table": "raw_hr.c", "step": "audit"}
    assert told == {"status": "failed", "run_id": failed.run_id, **same, **where}
    assert recovered.pop("log_url").endswith("/tasks/hr.finish")
    nothing = dict.fromkeys(("table", "step", "reason"))
    assert recovered == {"status": "recovered", "run_id": again.run_id, **same, **nothing}
    assert (again.state, third.state) == ("success", "success")
    assert again.returned == {"raw_hr.a": 2, "raw_hr.b": 0, "raw_hr.c": 30}


def test_a_source_that_is_down_is_tried_four_times_and_told_once(
    airflow: Airflow, school: World
) -> None:
    school.file("public.a", head="alert: hook\n")
    with http_server() as hook:
        away = f"postgresql://u:p4ssw0rd@127.0.0.1:{free_port()}/hr"
        airflow.secrets.add("p4ssw0rd")
        found = airflow.run(**connections(school, hr=away, hook=f"{hook.url}/"))
        told = only(hook.posts)
    assert found.state == "failed"
    assert found.tasks["hr.extract"] == ("failed", 4)
    assert found.tasks["hr.table.audit"] == ("upstream_failed", 0)
    assert (told["status"], told["step"], told["table"]) == ("failed", "extract", None)
    assert "source hr: expected a connection, found" in told["reason"]
    assert "found nothing that listens there" in told["reason"]
    assert told["log_url"].endswith("/tasks/hr.extract")
    status, step, table, error = ops_run(school, found.run_id)
    assert (status, step, table, error) == ("failed", "extract", None, told["reason"])


def test_a_warehouse_that_is_down_fails_the_run_and_is_told_once(
    airflow: Airflow, school: World
) -> None:
    school.file("public.a", head="alert: hook\n")
    with http_server() as hook:
        away = f"postgresql://u@127.0.0.1:{free_port()}/warehouse"
        found = airflow.run(**connections(school, warehouse=away, hook=f"{hook.url}/"))
        told = only(hook.posts)
    assert found.state == "failed"
    assert found.tasks["hr.extract"] == ("failed", 4)
    assert found.tasks["hr.finish"] == ("failed", 4)
    assert (told["status"], told["step"]) == ("failed", "extract")
    assert "warehouse: expected a connection, found" in told["reason"]
    assert told["log_url"].endswith("/tasks/hr.extract")


def test_a_warehouse_that_gives_no_rights_fails_the_first_run_and_is_told_once(
    airflow: Airflow, school: World
) -> None:
    school.forbid_schemas()
    school.file("public.a", head="alert: hook\n")
    with http_server() as hook:
        found = airflow.run(**connections(school, hook=f"{hook.url}/"))
        told = only(hook.posts)
    assert found.state == "failed"
    assert found.tasks["hr.finish"][0] == "failed"
    assert told["log_url"].endswith("/tasks/hr.extract")
    assert told["step"] == "extract"
    assert "expected it to be written, found: permission denied for database" in told["reason"]


def test_a_task_that_is_ended_from_outside_fails_its_run_in_ops_too(
    airflow: Airflow, school: World
) -> None:
    school.file("public.a", head="alert: hook\n")
    with http_server() as hook, psycopg.connect(school.source_admin) as other:
        other.execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE")
        given = connections(school, hook=f"{hook.url}/")
        found = airflow.run(**given, EXTRACT_SECONDS="1")
        told = only(hook.posts)
        other.rollback()
        assert found.state == "failed"
        assert found.tasks["hr.extract"] == ("failed", 4)
        assert (told["status"], told["step"]) == ("failed", "extract")
        assert "hr.extract" in told["reason"]
        assert ops_run(school, found.run_id)[:2] == ("failed", "extract")
        hook.posts.clear()
        assert airflow.run(**given).state == "success"
        assert only(hook.posts)["status"] == "recovered"


def test_what_lasts_at_one_table_keeps_no_other_from_its_next_try_or_from_being_published(
    airflow: Airflow, school: World
) -> None:
    school.at_source("CREATE TABLE twice (id int)", "INSERT INTO twice VALUES (1)")
    rules = (
        "name: public.a\n    on_schema_change: fail",
        "name: public.twice\n    key: [id]",
        "public.c",
    )
    run.run(school.job(*rules))
    school.at_source(
        "ALTER TABLE a ADD COLUMN more text",
        "INSERT INTO twice VALUES (1)",
        "INSERT INTO c VALUES (31, 'Ama')",
    )
    school.at_source("CREATE TABLE d ()")
    school.file(*rules, "name: public.d\n    checks: {rows: {min: 1}}", head="alert: hook\n")
    with http_server() as hook:
        found = airflow.run(**connections(school, hook=f"{hook.url}/"))
        told = only(hook.posts)
    assert found.state == "failed"
    assert found.tasks["hr.extract"] == ("success", 4)
    assert found.tasks["hr.table.audit[raw_hr.d]"] == ("failed", 1)
    assert found.tasks["hr.table.publish[raw_hr.c]"] == ("success", 1)
    assert school.rows("SELECT count(*) FROM raw_hr.c") == [(31,)]
    assert ops_run(school, found.run_id)[:3] == ("failed", "plan", "raw_hr.a")
    assert (told["table"], told["step"]) == ("raw_hr.a", "plan")
    assert told["log_url"].endswith("/tasks/hr.extract")


def test_together_a_failed_check_holds_all_tables_back_and_the_next_run_publishes_all(
    airflow: Airflow, school: World
) -> None:
    whole = "publish: together\n"
    school.file("public.a", "name: public.b\n    checks: {rows: {min: 1}}", head=whole)
    failed = airflow.run(**connections(school))
    assert failed.state == "failed"
    assert failed.tasks["hr.audit[raw_hr.b]"] == ("failed", 1)
    assert failed.tasks["hr.publish"][0] == "upstream_failed"
    assert ops_run(school, failed.run_id)[:3] == ("failed", "audit", "raw_hr.b")
    assert school.rows("SELECT to_regclass('raw_hr.a')") == [(None,)]
    school.file("public.a", "public.b", head=whole)
    assert airflow.run(**connections(school)).returned == {"raw_hr.a": 2, "raw_hr.b": 0}


@pytest.mark.parametrize(("status", "posts"), [(500, 5), (404, 1)])
def test_a_webhook_that_does_not_take_an_alert_fails_no_data(
    airflow: Airflow, school: World, status: int, posts: int
) -> None:
    with pytest.raises(CheckFailedError):
        run.run(school.job("name: public.a\n    checks: {rows: {min: 9}}"))
    school.file("public.a", head="alert: hook\n")
    with http_server(Answer(status)) as hook:
        found = airflow.run(**connections(school, hook=f"{hook.url}/s3cret"))
        assert [post["status"] for post in hook.posts] == ["recovered"] * posts
    assert found.state == "success"
    assert found.returned == {"raw_hr.a": 2}
    assert (
        "alert not delivered to connection hook: expected success,"
        f" found HTTP status {status}" in found.output
    )
    assert "s3cret" not in found.output


def test_a_webhook_that_no_connection_names_fails_no_data(airflow: Airflow, school: World) -> None:
    school.file("name: public.a\n    checks: {rows: {min: 9}}", head="alert: hook\n")
    found = airflow.run(**connections(school))
    assert found.state == "failed"
    assert found.tasks["hr.finish"] == ("failed", 1)
    assert ops_run(school, found.run_id)[:3] == ("failed", "audit", "raw_hr.a")
    assert "alert not delivered to connection hook: connection hook: expected it" in found.output


def test_a_mail_tells_who_asked_for_it_and_no_secret_is_left_in_logs_or_metadata(
    airflow: Airflow, school: World
) -> None:
    strict = "name: public.a\n    checks: {rows: {min: 1000}}"
    head = "alert: hook\nemail: [ama@school.example, kofi@school.example]\n"
    school.file(strict, head=head)
    token, key, password = (secrets.token_hex(12) for _ in range(3))
    airflow.secrets |= {token, key, password}
    with http_server() as hook, mail_server() as server:
        given = {
            "hook": json.dumps(
                {
                    "conn_type": "http",
                    "host": f"{hook.url}/services/{token}?token={token}",
                    "extra": {"headers": {"Authorization": f"Bearer {key}"}},
                }
            ),
            "smtp_default": json.dumps(
                {
                    "conn_type": "smtp",
                    "host": "127.0.0.1",
                    "port": server.server_address[1],
                    "login": "harmattan",
                    "password": password,
                    "extra": {
                        "from_email": "airflow@school.example",
                        "disable_ssl": True,
                        "disable_tls": True,
                        "retry_limit": 0,
                    },
                }
            ),
        }
        found = airflow.run(**connections(school, **given))
        told, request = only(hook.posts), hook.requests[0]
        (mail,) = server.mails
        assert server.logins == [("harmattan", password)]
    assert found.state == "failed"
    assert request.path == f"/services/{token}?token={token}"
    assert request.headers["Authorization"] == f"Bearer {key}"
    assert told["status"] == "failed"
    assert mail["From"] == "airflow@school.example"
    assert mail["To"] == "ama@school.example, kofi@school.example"
    assert mail["Subject"] == "Pipeline hr failed"
    body = mail.get_body(("html",))
    assert body is not None
    text = body.get_content()
    assert "table raw_hr.a: rows.min: expected at least 1000 rows, found 2" in text
    assert found.run_id in text.replace("&#43;", "+")
    assert "https://airflow.example.org/dags/ingest_hr/runs/" in text
    assert "people-analytics" in text
    everything = airflow.dump()
    assert "raw_hr.a" in everything
    assert "ama@school.example" not in found.output
    for secret in airflow.secrets:
        assert secret not in airflow.log.read_text()
        assert secret not in everything
        assert secret.encode().hex() not in everything


def test_an_address_is_no_template_that_could_ask_for_a_connection(
    airflow: Airflow, school: World
) -> None:
    strict = "name: public.a\n    checks: {rows: {min: 1000}}"
    school.file(strict, head="email: ['{{conn.warehouse.password}}@school.example']\n")
    with mail_server() as server:
        given = json.dumps(
            {
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": server.server_address[1],
                "extra": {
                    "from_email": "airflow@school.example",
                    "disable_ssl": True,
                    "disable_tls": True,
                },
            }
        )
        airflow.run(**connections(school, smtp_default=given))
        (mail,) = server.mails
    assert mail["To"] == "{{conn.warehouse.password}}@school.example"
    assert not [secret for secret in airflow.secrets if secret in mail.as_string()]


def test_without_a_mail_server_a_run_fails_as_it_would_and_the_log_says_what_is_missing(
    airflow: Airflow, school: World
) -> None:
    strict = [f"name: public.{table}\n    checks: {{rows: {{min: 1000}}}}" for table in "ac"]
    school.file(*strict, head="alert: hook\nemail: [ama@school.example]\n")
    with http_server() as hook:
        found = airflow.run(**connections(school, hook=f"{hook.url}/"))
        told = only(hook.posts)
    # Two tables failed; the log is that of the one which the alert tells of.
    place = {"raw_hr.a": 0, "raw_hr.c": 1}[told["table"]]
    assert told["log_url"].endswith(f"/tasks/hr.table.audit/mapped/{place}")
    assert found.state == "failed"
    assert found.tasks["hr.finish"] == ("failed", 1)
    assert "The conn_id `smtp_default` isn't defined" in found.output


def test_a_backfill_reads_the_rows_of_its_interval_again_and_nothing_else(
    airflow: Airflow, school: World
) -> None:
    school.at_source(
        "CREATE TABLE visits (id int PRIMARY KEY, note text, at timestamptz NOT NULL)",
        "INSERT INTO visits SELECT n, 'as it was', '2026-03-01'::timestamptz + n * interval '6 h'"
        " FROM generate_series(0, 20) n",
        "CREATE TABLE numbered (id int PRIMARY KEY)",
        "INSERT INTO numbered SELECT generate_series(1, 5)",
    )
    rules = (
        "name: public.visits\n    load: incremental\n    cursor: at",
        "name: public.numbered\n    load: incremental\n    cursor: id",
        "public.a",
    )
    run.run(school.job(*rules))
    before = school.rows('SELECT "table", cursor_value FROM ops.state ORDER BY 1')
    school.at_source(
        "UPDATE visits SET note = 'mended'",
        "DELETE FROM numbered",
        "INSERT INTO numbered VALUES (100)",
        "INSERT INTO a VALUES (3)",
    )
    school.file(*rules)
    first, second = airflow.backfill("2026-03-02", "2026-03-03T12:00", **connections(school))
    assert [first.state, second.state] == ["success", "success"]
    assert first.run_id.startswith("backfill__2026-03-02T02:00")
    mended = school.rows("SELECT min(at), max(at) FROM raw_hr.visits WHERE note = 'mended'")
    expected = school.source_rows(
        "SELECT min(at), max(at) FROM visits WHERE at >= '2026-03-01 02:00+00'"
        " AND at < '2026-03-03 02:00+00'"
    )
    assert mended == expected
    assert school.rows("SELECT count(*) FROM raw_hr.visits") == [(21,)]
    assert school.rows("SELECT count(*) FROM raw_hr.visits WHERE note = 'mended'") == [(8,)]
    # 02:00 to 02:00 holds four of the visits of every six hours.
    assert school.rows(
        "SELECT rows_read FROM ops.tables WHERE (\"table\", run_id) = ('raw_hr.visits', %s)",
        first.run_id,
    ) == [(4,)]
    assert school.rows("SELECT id FROM raw_hr.numbered ORDER BY 1") == [(n,) for n in range(1, 6)]
    assert school.rows("SELECT id FROM raw_hr.a ORDER BY 1") == [(1,), (2,)]
    assert school.rows('SELECT "table", cursor_value FROM ops.state ORDER BY 1') == before


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321, RFC 4954) as a client needs to hand over a mail."""

    server: MailServer

    def handle(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            verb = line.upper().split()[0]
            if verb == "EHLO":
                self._say("250-school.example", "250 AUTH PLAIN")
            elif verb == "AUTH":
                _, login, password = base64.b64decode(line.split()[2]).decode().split("\0")
                self.server.logins.append((login, password))
                self._say("235 welcome")
            elif verb == "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                mail = message_from_bytes(b"".join(lines), policy=policy.default)
                self.server.mails.append(mail)
                self._say("250 taken")
            else:
                self._say("221 bye" if verb == "QUIT" else "250 fine")

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class MailServer(socketserver.ThreadingTCPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Mail)
        self.mails: list[EmailMessage] = []
        self.logins: list[tuple[str, str]] = []


@contextmanager
def mail_server() -> Iterator[MailServer]:
    with MailServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

"""The DAG of a dbt project, run by a real Airflow with a real dbt and a real warehouse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from scripts import environments
from tests.airflow.harmattan.running import running
from tests.http_server import Answer, http_server
from tests.transform.conftest import BUILDER, FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.airflow.harmattan.running import Airflow
    from tests.conftest import PostgresServer

pytestmark = [pytest.mark.programs, pytest.mark.slow]

DAG = '''"""Airflow's DAG of the models."""

from pathlib import Path

from harmattan.models import models_dag

dag = models_dag(
    Path(__file__).parent, after=["raw_hr", "raw_records"], owner="people", alert="hook"
)
'''


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    metadata_database: Callable[[], str],
) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("airflow")
    (home / "bundle/models").mkdir(parents=True)
    for name, text in {**FILES, "dags.py": DAG}.items():
        (home / "bundle" / name).write_text(text)
    dbt = str(environments.ensure("dbt") / "bin/dbt")
    secrets = {postgres.password}
    metadata = metadata_database()
    with running(home, home / "bundle", metadata, secrets, HARMATTAN_DBT=dbt) as found:
        yield found


def execute(database: str, *statements: str) -> None:
    with psycopg.connect(database) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def warehouse(database: str) -> str:
    """A warehouse into which one of the two pipelines has loaded."""
    execute(
        database,
        BUILDER,
        "CREATE SCHEMA marts",
        "CREATE SCHEMA marts_build AUTHORIZATION marts_builder",
        "CREATE TABLE source AS SELECT generate_series(1, 5) AS n",
        "GRANT SELECT ON source TO marts_builder",
        "CREATE SCHEMA raw_hr CREATE TABLE people (id int)",
    )
    return database


RECORDS = "CREATE SCHEMA raw_records CREATE VIEW people AS SELECT 1 AS id"
OPS = (
    'CREATE SCHEMA ops CREATE TABLE state ("table" text, load_id text)',
    "INSERT INTO ops.state VALUES ('raw_hr.people', 'first')",
    "GRANT USAGE ON SCHEMA ops TO marts_builder",
    "GRANT SELECT, UPDATE ON ops.state TO marts_builder",
)
# A model while which a pipeline publishes: what it says is true the first time only.
PUBLISHES = """
{{ config(post_hook="update ops.state set load_id = 'second'") }} select 1 as n
"""


def test_what_is_sound_of_one_load_is_published_what_is_not_stays_and_the_webhook_hears_of_both(
    airflow: Airflow, warehouse: str
) -> None:
    connections = {"AIRFLOW_CONN_WAREHOUSE": warehouse}

    def marts() -> list[tuple[str, int]]:
        with psycopg.connect(warehouse) as connection:
            return connection.execute("SELECT * FROM marts.classes ORDER BY 1").fetchall()

    with http_server(Answer(200)) as hook:
        connections["AIRFLOW_CONN_HOOK"] = f"http://127.0.0.1:{hook.port}/hook"
        early = airflow.run("models", **connections)
        assert (early.state, early.tasks["run"]) == ("failed", ("failed", 5))
        assert "expected tables in raw_records, found none" in hook.posts.pop()["reason"]
        assert "dbt" not in early.output, "nothing is started in vain"
        execute(warehouse, RECORDS, *OPS)

        # Models that read other rows than their tests would fail, and nothing is wrong with them.
        (airflow.bundle / "models/alone.sql").write_text(PUBLISHES)
        first = airflow.run("models", **connections)
        assert (first.state, first.tasks["run"]) == ("success", ("success", 2))
        assert "a pipeline published while they were built" in first.output
        assert "OK created sql table model marts_build.classes" in first.output
        assert "published marts.classes" in first.output
        assert marts() == [("class 0", 2), ("class 1", 3)]
        assert hook.posts == []

        execute(warehouse, "INSERT INTO source VALUES (6), (6)")
        broken = airflow.run("models", **connections)
        assert (broken.state, broken.tasks["run"]) == ("failed", ("failed", 1))
        assert marts() == [("class 0", 2), ("class 1", 3)], "readers keep yesterday's"
        (post,) = hook.posts
        assert (post["status"], post["models"], post["owner"]) == ("failed", "models", "people")
        assert "unique_pupils_n: fail" in post["reason"]
        assert "marts classes, pupils: expected them to pass" in post["reason"]
        assert post["log_url"].startswith("https://airflow.example.org/dags/models/runs/")

        execute(warehouse, "DELETE FROM source WHERE n = 6")
        execute(warehouse, "INSERT INTO source VALUES (7)")
        well = airflow.run("models", **connections)
        assert well.state == "success"
        assert marts() == [("class 0", 2), ("class 1", 4)]
        assert [each["status"] for each in hook.posts] == ["failed", "recovered"]
    assert warehouse not in airflow.dump()


def test_a_warehouse_that_is_away_is_tried_again_and_told_once(airflow: Airflow) -> None:
    away = "postgresql://nobody:nothing@127.0.0.1:9/none"
    with http_server(Answer(200)) as hook:
        url = f"http://127.0.0.1:{hook.port}/hook"
        run = airflow.run("models", AIRFLOW_CONN_WAREHOUSE=away, AIRFLOW_CONN_HOOK=url)
    assert (run.state, run.tasks["run"]) == ("failed", ("failed", 5))
    (post,) = hook.posts
    assert "expected a connection" in post["reason"]
    assert "nothing@" not in run.output


def test_it_runs_every_morning_and_when_a_pipeline_has_published(airflow: Airflow) -> None:
    ((timetable,),) = airflow.rows(
        "SELECT data->'dag'->'timetable' FROM serialized_dag WHERE dag_id = 'models'"
        " ORDER BY last_updated DESC LIMIT 1"
    )
    said = str(timetable)
    assert "AssetOrTimeSchedule" in said
    assert "0 4 * * *" in said
    assert "harmattan://warehouse/raw_hr" in said
    assert "harmattan://warehouse/raw_records" in said

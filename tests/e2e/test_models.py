"""The models on the real platform: figures that agree with the sources, and a page to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests
from playwright.sync_api import expect

from scripts import dags
from scripts.local import databases
from tests.browser import SCREENSHOTS
from tests.e2e.rounds import ended, task_log, trigger
from tests.e2e.test_browser import PATIENCE, page

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from scripts.access import Access

__all__ = ["page"]

pytestmark = pytest.mark.usefixtures("models")

# The same of the sources and of the marts, in SQL of the one and of the other.
FIGURES = {
    "records": (
        "SELECT count(DISTINCT student_id) FROM enrolments WHERE academic_year = 2026",
        "SELECT sum(students) FROM marts.enrolment WHERE academic_year = 2026",
    ),
    "hr": (
        "SELECT sum(gross) FROM payroll WHERE month = '2026-06-01'",
        "SELECT sum(gross) FROM marts.payroll_cost WHERE month = '2026-06-01'",
    ),
    "service_desk": (
        "SELECT count(*) FROM tickets WHERE closed_at IS NULL",
        "SELECT sum(tickets) FROM marts.open_tickets",
    ),
}


def value(role: str, query: str) -> Any:
    with psycopg.connect(databases.role(role).uri) as connection:
        ((found,),) = connection.execute(query.encode()).fetchall()
    return found


def test_every_mart_is_published_and_agrees_with_the_sources(platform: Access) -> None:
    run = trigger(platform, "models")
    assert ended(platform, run) == "success", task_log(platform, run, "run")
    unsound = "SELECT count(*) FROM marts.published_marts WHERE unsound IS NOT NULL"
    assert value("warehouse_analyst", unsound) == 0
    for source, (at_source, in_mart) in FIGURES.items():
        expected = value(f"{source}_owner", at_source)
        assert expected
        assert value("warehouse_analyst", in_mart) == expected, source
    (row,) = dags.marts(platform)
    assert row.well


def test_a_pipeline_that_published_runs_the_models(platform: Access) -> None:
    runs = "dags/models/dagRuns"
    before = platform.airflow(runs, params={"run_type": "asset_triggered"})["total_entries"]
    assert before > 0, "the first pipelines started them"


def test_the_page_of_the_models_shows_their_lineage_and_asks_airflow_nothing(
    platform: Access, page: Page
) -> None:
    url = f"{platform.values['AIRFLOW_URL']}/models/documentation"
    assert requests.get(url, timeout=30).status_code == requests.codes.unauthorized
    page.goto("/dags")
    expect(page.get_by_text("ingest_hr").first).to_be_visible(timeout=PATIENCE)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    answer = page.goto("/models/documentation#!/model/model.school.enrolment")
    assert answer is not None
    assert "sandbox" in answer.headers["content-security-policy"]
    expect(page.get_by_text("academic_year").first).to_be_visible(timeout=PATIENCE)
    page.screenshot(path=SCREENSHOTS / "models.png")
    assert page.evaluate("self.origin") == "null", "a site of its own, without Airflow's cookies"
    assert errors == []

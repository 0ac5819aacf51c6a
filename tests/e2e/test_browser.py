"""What people see: a browser logs in, finds the DAGs and reads a task's log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Page, expect

from tests.browser import SCREENSHOTS, launched
from tests.e2e.rounds import ended, trigger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

# The first answer of a page takes seconds while two cores also run tasks.
PATIENCE = 60_000  # ms


@pytest.fixture
def page(platform: Access) -> Iterator[Page]:
    """A page of a fresh browser, logged in as the first administrator."""
    with launched() as browser:
        page = browser.new_page(
            base_url=platform.values["AIRFLOW_URL"], viewport={"width": 1440, "height": 900}
        )
        page.set_default_timeout(PATIENCE)
        page.goto("/")
        page.get_by_label("Username").fill(platform.values["AIRFLOW_USERNAME"])
        page.get_by_label("Password").fill(platform.values["AIRFLOW_PASSWORD"])
        page.get_by_role("button", name="Sign In").or_(
            page.locator("input[type=submit]")
        ).first.click()
        yield page


def test_the_list_of_dags_shows_the_pipelines(page: Page) -> None:
    page.goto("/dags")
    for dag_id in ("ingest_hr", "ingest_records", "ingest_service_desk", "school_report"):
        expect(page.get_by_role("link", name=dag_id, exact=True).first).to_be_visible(
            timeout=PATIENCE
        )
    page.screenshot(path=SCREENSHOTS / "dags.png")


def test_the_log_of_a_task_is_shown(platform: Access, page: Page) -> None:
    run = trigger(platform, "ingest_hr")
    assert ended(platform, run) == "success"
    page.goto(f"/dags/ingest_hr/runs/{run.rpartition('/')[2]}/tasks/load")
    expect(page.get_by_text("staged raw_hr.payroll").first).to_be_visible(timeout=PATIENCE)
    page.screenshot(path=SCREENSHOTS / "task-log.png")

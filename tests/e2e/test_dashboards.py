"""Dashboards as leadership sees them: without an error, with the sources' own figures."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from playwright.sync_api import expect

from scripts.local import databases
from scripts.local.home import ADDRESS, PORTS, kept
from scripts.repository import LOGS
from tests.browser import SCREENSHOTS, launched
from tests.dashboards.service import PEOPLE, add_people
from tests.e2e.rounds import ended, trigger, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from scripts.access import Access

URL = f"http://{ADDRESS}:{PORTS['Superset'][0]}"
PATIENCE = 60_000  # ms; how long it really took is written beside the screenshots
SIZES = {1440: 900, 390: 844}  # a desk and a phone
# What each shows, and the same of the source: its database, the query, how the number is written.
DASHBOARDS = {
    "enrolment": (
        "records",
        "SELECT count(DISTINCT student_id) FROM enrolments WHERE academic_year = 2026",
        "{:,}",
    ),
    "results": (
        "records",
        "SELECT count(*) FROM results WHERE academic_year = 2026",
        "{:,}",
    ),
    "hr": (
        "hr",
        "SELECT round(sum(gross))::bigint FROM payroll WHERE month >= '2026-01-01'",
        "GHS {:,}",
    ),
    "service-desk": (
        "service_desk",
        "SELECT count(*) FROM tickets WHERE closed_at IS NULL",
        "{:,}",
    ),
    "data-platform": (
        "warehouse",
        "SELECT count(*) FROM marts.table_freshness WHERE late",
        "{:,}",
    ),
}


def ask(uri: str, query: str) -> Any:
    with psycopg.connect(uri) as connection:
        ((found,),) = connection.execute(query.encode()).fetchall()
    return found


def at_source(dashboard: str) -> str:
    """Return what the dashboard is to show, computed from the source itself."""
    source, query, form = DASHBOARDS[dashboard]
    role = "warehouse_analyst" if source == "warehouse" else f"{source}_owner"
    return form.format(ask(databases.role(role).uri, query))


@pytest.fixture(scope="module")
def people(platform: Access) -> dict[str, str]:
    """Return an account of each role of Superset; all have the administrator's password."""
    with psycopg.connect(databases.superuser("superset"), autocommit=True) as connection:
        there = {name for (name,) in connection.execute("SELECT username FROM ab_user")}
        add_people(
            lambda statement, *values: connection.execute(statement.encode(), values),
            {role: user for role, user in PEOPLE.items() if user not in there},
        )
    return PEOPLE


@pytest.fixture(scope="module")
def head(people: dict[str, str]) -> Iterator[Page]:
    """The browser of somebody who only looks."""
    with launched() as browser:
        page = browser.new_page(base_url=URL, viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto("/login/")
        page.locator("#username, [name=username]").first.fill(people["leadership"])
        page.locator("#password, [name=password]").first.fill(kept("superset-admin"))
        page.locator("[type=submit]").first.click()
        page.wait_for_url(lambda url: "/login" not in url)
        yield page


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_leadership_sees_it_without_an_error_and_with_the_sources_figures(
    head: Page, dashboard: str
) -> None:
    expected, took = at_source(dashboard), {}
    errors: list[str] = []

    def hear(error: object) -> None:
        errors.append(str(error))

    head.on("pageerror", hear)
    for width, height in SIZES.items():
        head.set_viewport_size({"width": width, "height": height})
        started = time.monotonic()
        head.goto(f"/superset/dashboard/{dashboard}/")
        expect(head.get_by_text(expected, exact=True).first).to_be_visible(timeout=PATIENCE)
        took[width] = round(time.monotonic() - started, 1)
        # Charts further down load when they come into view.
        for _ in range(12):
            head.mouse.wheel(0, 500)
            head.wait_for_timeout(150)
        expect(head.locator(".loading")).to_have_count(0, timeout=PATIENCE)
        for fault in ("Unexpected error", "permission denied", "Data error", "Error:"):
            expect(head.get_by_text(fault)).to_have_count(0)
        head.screenshot(path=SCREENSHOTS / f"{dashboard}-{width}.png", full_page=True)
    head.remove_listener("pageerror", hear)
    with (LOGS / "dashboards.jsonl").open("a") as log:
        print(json.dumps({"dashboard": dashboard, "seconds": took}), file=log)
    # Superset tries to keep the colours of a dashboard, which somebody who only looks may not.
    assert [error for error in errors if error != "Response"] == []


def test_a_row_that_changed_at_the_source_arrives_in_a_chart(platform: Access, head: Page) -> None:
    before = at_source("service-desk")
    with psycopg.connect(databases.role("service_desk_owner").uri) as connection:
        ((ticket,),) = connection.execute(
            "UPDATE tickets SET status = 'closed', closed_at = now(), updated_at = now()"
            " WHERE id = (SELECT id FROM tickets WHERE closed_at IS NULL LIMIT 1) RETURNING id"
        ).fetchall()
    assert ticket
    expected = at_source("service-desk")
    assert expected != before
    marts = "SELECT coalesce(max(published_at)::text, '') FROM marts.published_marts"
    analyst = databases.role("warehouse_analyst").uri
    published = ask(analyst, marts)
    assert ended(platform, trigger(platform, "ingest_service_desk")) == "success"
    # The load starts the models by itself.
    wait_until(lambda: ask(analyst, marts) > published, "the marts to be published", 300)
    head.set_viewport_size({"width": 1440, "height": 900})
    head.goto("/superset/dashboard/service-desk/")
    # From the cache, for five minutes, or until somebody asks for what is new.
    expect(head.get_by_text("not resolved").first).to_be_visible(timeout=PATIENCE)
    expect(head.locator(".loading")).to_have_count(0, timeout=PATIENCE)
    head.get_by_role("img", name="sync").or_(head.get_by_label("Refresh dashboard")).first.click()
    expect(head.get_by_text(expected, exact=True).first).to_be_visible(timeout=PATIENCE)

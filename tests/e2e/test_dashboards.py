"""Dashboards as leadership sees them: every chart without an error, with the sources' own figures.

Each is opened once, after a ticket was closed at the source, and all tests look at what was seen.
"""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from playwright.sync_api import expect

from dashboards.files import read, read_folder
from dashboards.layout import CHARTS, DASHBOARDS, PLATFORM, charts_of
from scripts.local import databases
from scripts.local.first_run import TEMPLATE
from scripts.local.home import ADDRESS, PORTS, kept
from scripts.repository import LOGS
from tests.browser import SCREENSHOTS, launched
from tests.dashboards.service import PEOPLE, Session, add_people
from tests.e2e.rounds import ended, trigger, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Request, Response

    from scripts.access import Access

URL = f"http://{ADDRESS}:{PORTS['Superset'][0]}"
PATIENCE = 60_000  # ms; how long it really took is written beside the screenshots
WIDE, PHONE = 1440, 390
ASSETS = read(read_folder(TEMPLATE)).assets
PAGES = {each.content["slug"]: each.content for each in ASSETS if each.kind == DASHBOARDS}
SHOWN = {
    each.uuid: each.name
    for each in ASSETS
    if each.kind == CHARTS and any(each.uuid in charts_of(page) for page in PAGES.values())
}
# What each shows, and the same of the source: its database, the query, how the number is written.
AT_SOURCE = {
    "enrolment": (
        "records",
        "SELECT count(DISTINCT student_id) FROM enrolments WHERE academic_year = 2026",
        "{:,}",
    ),
    "results": ("records", "SELECT count(*) FROM results WHERE academic_year = 2026", "{:,}"),
    "hr": (
        "hr",
        "SELECT round(sum(gross))::bigint FROM payroll WHERE month >= '2026-01-01'",
        "GHS {:,}",
    ),
    "service-desk": (
        "service_desk", "SELECT count(*) FROM tickets WHERE closed_at IS NULL", "{:,}"
    ),
    "data-platform": (
        "warehouse", "SELECT count(*) FROM marts.table_freshness WHERE late", "{:,}"
    ),
}  # fmt: skip
NEWEST = "(SELECT max(extract(year FROM month)) FROM payroll_cost)"
ONE_YEAR = "academic_year = (SELECT max(academic_year) FROM {})"
# A chart, one of its columns, and what plain SQL finds in the marts for the sum of it.
FIGURES = {
    "Students": ("students", f"SELECT sum(students) FROM enrolment WHERE {ONE_YEAR}"),
    "Students by year": ("", "SELECT sum(students) FROM enrolment"),
    "Students by region": ("students", f"SELECT sum(students) FROM enrolment WHERE {ONE_YEAR}"),
    "New students by year": ("", "SELECT sum(students) FROM new_students"),
    "Results recorded": ("scripts", f"SELECT sum(scripts) FROM exam_results WHERE {ONE_YEAR}"),
    "Pass rate": (
        "pass_rate",
        "SELECT sum(passed) / sum(scripts - absent) FROM exam_results"
        f" WHERE passed IS NOT NULL AND {ONE_YEAR}",
    ),
    "What became of last year's students": (
        "moved_up", "SELECT sum(moved_up) FROM progression WHERE year_at_school > 1"
    ),
    "Staff by month": ("employees", "SELECT sum(employees) FROM staff_headcount"),
    "Joiners and leavers by month": (
        "joiners",
        f"SELECT sum(joiners) FROM staff_movements WHERE extract(year FROM month) = {NEWEST}",
    ),
    "Leave owed": (
        "owed",
        f"SELECT sum(owed_days) FROM leave_balance WHERE year = {NEWEST}",
    ),
    "Payroll by department": (
        "gross", f"SELECT sum(gross) FROM payroll_cost WHERE extract(year FROM month) = {NEWEST}"
    ),
    "Open tickets by age and priority": ("", "SELECT sum(tickets) FROM open_tickets"),
    "Opened by month and kind of machine": ("", "SELECT sum(tickets) FROM tickets_by_month"),
    "Resolved in time": (
        "resolved_in_time",
        "SELECT sum(resolutions_in_time) / sum(resolutions_due) FROM tickets_by_month",
    ),
    "Rows read by day": ("", "SELECT sum(rows_read) FROM table_loads"),
    "Failed checks": ("failed", "SELECT count(*) FROM failed_checks"),
    "Freshness of each table": ("rows", "SELECT sum(rows) FROM table_freshness"),
}  # fmt: skip


def ask(uri: str, query: str) -> Any:
    with psycopg.connect(uri) as connection:
        ((found,),) = connection.execute(query.encode()).fetchall()
    return found


def at_source(dashboard: str) -> str:
    """Return what the dashboard is to show, computed from the source itself."""
    source, query, form = AT_SOURCE[dashboard]
    role = "warehouse_analyst" if source == "warehouse" else f"{source}_owner"
    return form.format(ask(databases.role(role).uri, query))


@dataclass
class Seen:
    """What a browser saw of the dashboards: answers by chart, and what was wrong with a page."""

    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    # By dashboard, on a phone: how wide the page is, and where each chart begins and ends.
    on_a_phone: dict[str, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)


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


@contextmanager
def failed_check() -> Iterator[None]:
    """Let one check of a pipeline have failed, which a chart is there to show."""
    with psycopg.connect(databases.superuser("warehouse"), autocommit=True) as connection:
        ((where,),) = connection.execute(
            "UPDATE ops.checks SET passed = false WHERE ctid ="
            " (SELECT ctid FROM ops.checks WHERE passed LIMIT 1) RETURNING ctid::text"
        ).fetchall()
        yield
        connection.execute("UPDATE ops.checks SET passed = true WHERE ctid = %s::tid", [where])


def container(platform: Access) -> str:
    (running,) = [
        f"superset-{each['ID']}"
        for each in platform.nomad.job.get_allocations("superset")
        if each["ClientStatus"] == "running"
    ]
    return running


def forget_answers(platform: Access) -> None:
    """Empty Superset's cache: what somebody has looked at stays for five minutes."""
    emptied = ["find", "/tmp/superset", "-type", "f", "-delete"]  # noqa: S108 - the container's
    subprocess.run(["docker", "exec", container(platform), *emptied], check=True, timeout=60)


def close_a_ticket() -> None:
    before = at_source("service-desk")
    with psycopg.connect(databases.role("service_desk_owner").uri) as connection:
        connection.execute(
            "UPDATE tickets SET status = 'closed', closed_at = now(), updated_at = now()"
            " WHERE id = (SELECT id FROM tickets WHERE closed_at IS NULL LIMIT 1)"
        )
    assert at_source("service-desk") != before


@pytest.fixture(scope="module")
def seen(platform: Access, models: None, people: dict[str, str]) -> Iterator[Seen]:
    """Look at all dashboards, after the next run that follows a change at a source."""
    marts = "SELECT coalesce(max(published_at)::text, '') FROM marts.published_marts"
    analyst = databases.role("warehouse_analyst").uri
    with failed_check(), launched() as browser:
        close_a_ticket()
        published = ask(analyst, marts)
        assert ended(platform, trigger(platform, "ingest_service_desk")) == "success"
        # The load starts the models by itself.
        wait_until(lambda: ask(analyst, marts) > published, "the marts to be published", 300)
        forget_answers(platform)
        page = browser.new_page(base_url=URL, viewport={"width": WIDE, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto("/login/")
        page.fill("#username", people["leadership"])
        page.fill("#password", kept("superset-admin"))
        page.press("#password", "Enter")
        page.wait_for_url(lambda url: "/login" not in url)
        looked = Seen()
        page.on("pageerror", lambda error: looked.errors.append(str(error)))
        for slug in PAGES:
            look(page, slug, looked)
        yield looked


def look(page: Page, slug: str, looked: Seen) -> None:
    """Open a dashboard on a desk, so high that every chart is drawn, and then on a phone."""
    took = {WIDE: 0.0, PHONE: 0.0}
    answers: list[Response] = []

    def hear(request: Request) -> None:
        keep(request, answers)

    page.on("requestfinished", hear)
    took[WIDE] = open_at(page, slug, WIDE, 900)
    page.set_viewport_size({"width": WIDE, "height": 3600})
    for _ in range(600):
        if len(answers) >= len(charts_of(PAGES[slug])):
            break
        page.wait_for_timeout(100)
    photograph(page, slug, WIDE)
    page.remove_listener("requestfinished", hear)
    with psycopg.connect(databases.superuser("superset")) as connection:
        names = dict(connection.execute("SELECT id, slice_name FROM slices").fetchall())
    for answer in answers:
        name = names[chart_of(answer.request)]
        looked.answers[name] = {"status": answer.status, **answer.json()}
    took[PHONE] = open_at(page, slug, PHONE, 844)
    photograph(page, slug, PHONE)
    looked.on_a_phone[slug] = page.evaluate(
        """() => [document.documentElement.scrollWidth,
                  [...document.querySelectorAll('.chart-slice')].map(chart => {
                    const place = chart.getBoundingClientRect();
                    return [Math.round(place.left), Math.round(place.right)] })]"""
    )
    with (LOGS / "dashboards.jsonl").open("a") as log:
        print(json.dumps({"dashboard": slug, "seconds": took}), file=log)
    page.goto("about:blank")


def open_at(page: Page, slug: str, width: int, height: int) -> float:
    """Open a dashboard; return the seconds until it shows the figure of its source."""
    page.set_viewport_size({"width": width, "height": height})
    started = time.monotonic()
    page.goto(f"/superset/dashboard/{slug}/")
    figure = page.get_by_text(at_source(slug), exact=True).first
    expect(figure).to_be_visible(timeout=PATIENCE)
    return round(time.monotonic() - started, 1)


def photograph(page: Page, slug: str, width: int) -> None:
    """Keep a picture of what is drawn, which is no fault."""
    expect(page.locator(".loading")).to_have_count(0, timeout=PATIENCE)
    for fault in ("Unexpected error", "permission denied", "Data error", "Error:"):
        expect(page.get_by_text(fault)).to_have_count(0)
    page.screenshot(path=SCREENSHOTS / f"{slug}-{width}.png")


def keep(request: Request, answers: list[Response]) -> None:
    response = request.response() if chart_of(request) else None
    if response is not None:
        answers.append(response)


def chart_of(request: Request) -> int | None:
    """Return the number of the chart that asks for rows; a filter asks the same address."""
    if "/api/v1/chart/data" not in request.url:
        return None
    asked = request.post_data_json or {}
    number = asked["form_data"].get("slice_id")
    return int(number) if number else None


def test_leadership_sees_no_error_and_the_sources_figures(seen: Seen) -> None:
    assert list(seen.on_a_phone) == list(PAGES), "each showed the figure of its source"
    # Superset tries to keep the colours of a dashboard, which somebody who only looks may not.
    assert [error for error in seen.errors if error != "Response"] == []


@pytest.mark.parametrize("chart", SHOWN.values())
def test_leadership_sees_a_chart_with_rows(seen: Seen, chart: str) -> None:
    answer = seen.answers[chart]
    assert answer["status"] == 200, answer
    (query, *_) = answer["result"]
    assert query["error"] is None
    assert query["rowcount"] > 0
    values = [value for row in query["data"] for value in row.values()]
    assert any(value is not None for value in values), query["query"]


@pytest.mark.parametrize("chart", FIGURES)
def test_a_figure_is_what_plain_sql_finds(seen: Seen, chart: str) -> None:
    column, query = FIGURES[chart]
    table = query.partition(" FROM ")[2].partition(" ")[0]
    rows = seen.answers[chart]["result"][0]["data"]
    # Without a column: a chart of several series, which are all that is a number but the year.
    values = [
        value
        for row in rows
        for name, value in row.items()
        if (name == column if column else name not in ("academic_year", "month", "day"))
        and isinstance(value, int | float)
    ]
    figure = ask(f"{databases.role('bi').uri}", f"SELECT ({query.format(table)})")
    assert sum(values) == pytest.approx(float(figure), rel=1e-6)


@pytest.mark.parametrize("slug", PAGES)
def test_a_phone_shows_one_chart_beside_the_other_and_scrolls_down_only(
    seen: Seen, slug: str
) -> None:
    width, places = seen.on_a_phone[slug]
    assert width <= PHONE
    assert places
    assert all(left >= 0 and right <= PHONE for left, right in places), places


def test_what_leadership_chose_in_a_filter_is_kept(seen: Seen, people: dict[str, str]) -> None:
    session = Session(URL, people["leadership"], kept("superset-admin"))
    number = ask(
        databases.superuser("superset"), "SELECT id FROM dashboards WHERE slug = 'enrolment'"
    )
    path = f"/api/v1/dashboard/{number}/filter_state"
    made = session.call("POST", path, json={"value": '{"chosen": 2026}'})
    assert made.status_code == 201, made.text
    there = session.call("GET", f"{path}/{made.json()['key']}")
    assert there.json()["value"] == '{"chosen": 2026}'


def test_what_superset_exports_is_what_is_in_the_files(platform: Access, tmp_path: Path) -> None:
    running = container(platform)
    # In the task's own folder, whose content goes with it.
    export = "mkdir -p /local/e2e && python -m dashboards export --to /local/e2e"
    for words in (
        ["exec", running, "sh", "-c", export],
        ["cp", "--quiet", f"{running}:/local/e2e/dashboards", tmp_path],
        ["exec", running, "rm", "-r", "/local/e2e"],
    ):
        subprocess.run(["docker", *words], check=True, capture_output=True, timeout=120)
    exported = sorted((tmp_path / "dashboards").rglob("*.yaml"))
    assert len(exported) > len(SHOWN)
    for path in exported:
        file = TEMPLATE / path.relative_to(tmp_path)
        assert file.read_text() == path.read_text(), file


def test_the_platform_s_own_table_has_the_columns_that_check_knows(seen: Seen) -> None:
    with psycopg.connect(databases.role("bi").uri) as connection:
        for table, columns in PLATFORM.items():
            rows = connection.execute(
                "SELECT attname FROM pg_attribute"
                " WHERE attrelid = to_regclass('marts.' || %s) AND attnum > 0",
                (table,),
            ).fetchall()
            assert {name for (name,) in rows} == columns

"""The school's dashboards, opened in a real browser on the school's marts."""

from __future__ import annotations

import secrets
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from dashboards.files import read, read_folder
from dashboards.layout import CHARTS, DASHBOARDS, PLATFORM, charts_of, filters_of
from ingest import contract, run
from ingest.connections import Entry
from ingest.job import Job
from scripts import environments
from scripts.repository import ROOT
from standins.school.load import DATABASES, load
from tests.browser import SCREENSHOTS, launched
from tests.dashboards.service import Service, running
from transform import journal
from transform.results import Mart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request, Response

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

TEMPLATE = ROOT / "airflow/analysts-template"
ASSETS = read(read_folder(TEMPLATE)).assets
PAGES = {each.content["slug"]: each.content for each in ASSETS if each.kind == DASHBOARDS}
SHOWN = {
    each.uuid: each.name
    for each in ASSETS
    if each.kind == CHARTS and any(each.uuid in charts_of(page) for page in PAGES.values())
}
# A school large enough that each group is shown somewhere, and small enough to load in seconds.
SCALE, SEED = 0.2, 7
WIDE, PHONE = 1440, 390
GRANTS = """
    GRANT CONNECT ON DATABASE {database} TO {role};
    ALTER ROLE {role} PASSWORD {password};
    GRANT USAGE ON SCHEMA raw_records, raw_hr, raw_service_desk, ops TO {role};
    GRANT SELECT ON ALL TABLES IN SCHEMA raw_records, raw_hr, raw_service_desk, ops TO {role};
"""
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


def fill(service: Service) -> None:
    """Put the school's marts into the warehouse, with one check that failed."""
    server, name = service.server, service.role("warehouse")
    uri, analyst, password = server.uri(name), service.role("analyst"), secrets.token_urlsafe(12)
    with psycopg.connect(uri) as connection:
        connection.execute("DROP SCHEMA raw_hr, ops CASCADE; DROP TABLE marts.enrolment")
    for source in DATABASES:
        database = server.create_database()
        with psycopg.connect(database) as connection:
            load(connection, source, SCALE, SEED)

        def resolve(which: str, database: str = database) -> Entry:
            return Entry(which, "postgresql", uri if which == "warehouse" else database)

        pipeline = contract.read(TEMPLATE / f"pipelines/{source}.yaml")
        run.run(Job(pipeline, source, "scheduled__2026-11-26", resolve))
    with psycopg.connect(uri) as connection:
        names = {
            "database": sql.Identifier(name),
            "role": sql.Identifier(analyst),
            "password": sql.Literal(password),
        }
        connection.execute(sql.SQL(GRANTS).format(**names))
        connection.execute(
            "UPDATE ops.checks SET passed = false"
            " WHERE ctid = (SELECT ctid FROM ops.checks WHERE pipeline = 'hr' LIMIT 1)"
        )
    built = subprocess.run(
        [environments.ensure("dbt") / "bin/dbt", "--no-use-colors", "run"],
        cwd=TEMPLATE,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(service.home),
            "DBT_TARGET_PATH": str(service.home / "target"),
            "DBT_LOG_PATH": str(service.home / "logs"),
            "MODELS_HOST": "127.0.0.1",
            "MODELS_PORT": str(server.port),
            "MODELS_USER": analyst,
            "MODELS_SCHEMA": "marts",
            "DBT_ENV_SECRET_MODELS_PASSWORD": password,
            "MODELS_DATABASE": name,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stdout
    owner = f"postgresql://{analyst}:{password}@127.0.0.1:{server.port}/{name}"
    marts = sorted(path.stem for path in (TEMPLATE / "models/marts").glob("*/*.sql"))
    with psycopg.connect(owner) as connection:
        journal.write(connection, [Mart(mart) for mart in marts], ())


@dataclass
class Seen:
    """What a browser saw of the dashboards: answers by chart, and what was wrong with a page."""

    service: Service
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    # By dashboard, on a phone: how wide the page is, and where each chart begins and ends.
    on_a_phone: dict[str, tuple[int, list[tuple[int, int]]]] = field(default_factory=dict)

    def figure(self, query: str) -> float:
        with psycopg.connect((self.service.home / "warehouse").read_text()) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return float(row[0])


@pytest.fixture(scope="module")
def seen(postgres: PostgresServer) -> Iterator[Seen]:
    with running(postgres, fill) as service:
        done = service.run("import", TEMPLATE)
        assert done.returncode == 0, done.stdout + done.stderr
        looked = Seen(service)
        with launched() as browser:
            page = logged_in(browser, service)
            for slug in PAGES:
                look(page, slug, looked)
        yield looked


def logged_in(browser: Browser, service: Service) -> Page:
    page = browser.new_page(viewport={"width": WIDE, "height": 900})
    page.goto(f"{service.url}/login/")
    page.fill("#username", "head")
    page.fill("#password", service.password)
    page.press("#password", "Enter")
    page.wait_for_url(lambda url: "/login" not in url)
    return page


def look(page: Page, slug: str, looked: Seen) -> None:
    """Open a dashboard so high that every chart is drawn, and then as on a phone."""
    answers: list[Response] = []
    page.on("requestfinished", lambda request: keep(request, answers))
    wanted = len(charts_of(PAGES[slug]))
    page.set_viewport_size({"width": WIDE, "height": 3600})
    page.goto(f"{looked.service.url}/superset/dashboard/{slug}/")
    for _ in range(300):
        if len(answers) >= wanted:
            break
        page.wait_for_timeout(100)
    for answer in answers:
        ((name,),) = looked.service.query(
            "SELECT slice_name FROM slices WHERE id = %s", chart_of(answer.request)
        )
        looked.answers[name] = {"status": answer.status, **answer.json()}
    page.screenshot(path=SCREENSHOTS / f"dashboard-{slug}.png")
    page.set_viewport_size({"width": PHONE, "height": 844})
    page.wait_for_timeout(500)
    page.screenshot(path=SCREENSHOTS / f"dashboard-{slug}-phone.png")
    looked.on_a_phone[slug] = page.evaluate(
        """() => [document.documentElement.scrollWidth,
                  [...document.querySelectorAll('.chart-slice')].map(chart => {
                    const place = chart.getBoundingClientRect();
                    return [Math.round(place.left), Math.round(place.right)] })]"""
    )
    page.goto("about:blank")


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


def test_the_files_are_sound(seen: Seen) -> None:
    done = seen.service.run("check", TEMPLATE)
    assert done.returncode == 0, done.stderr


def test_what_superset_exports_is_what_is_in_the_files(seen: Seen, tmp_path: Path) -> None:
    done = seen.service.run("export", "--to", tmp_path)
    assert done.returncode == 0, done.stderr
    for path in sorted((tmp_path / "dashboards").rglob("*.yaml")):
        file = TEMPLATE / path.relative_to(tmp_path)
        assert file.read_text() == path.read_text(), file


def test_what_leadership_chose_in_a_filter_is_kept(seen: Seen) -> None:
    session = seen.service.login("head")
    ((number,),) = seen.service.query("SELECT id FROM dashboards WHERE slug = 'enrolment'")
    path = f"/api/v1/dashboard/{number}/filter_state"
    made = session.call("POST", path, json={"value": '{"chosen": 2026}'})
    assert made.status_code == 201, made.text
    there = session.call("GET", f"{path}/{made.json()['key']}")
    assert there.json()["value"] == '{"chosen": 2026}'


def test_the_platform_s_own_table_has_the_columns_that_check_knows(seen: Seen) -> None:
    with psycopg.connect((seen.service.home / "warehouse").read_text()) as connection:
        for table, columns in PLATFORM.items():
            rows = connection.execute(
                "SELECT attname FROM pg_attribute"
                " WHERE attrelid = to_regclass('marts.' || %s) AND attnum > 0",
                (table,),
            ).fetchall()
            assert {name for (name,) in rows} == columns


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
    assert sum(values) == pytest.approx(seen.figure(f"SELECT ({query.format(table)})"), rel=1e-6)


@pytest.mark.parametrize("slug", PAGES)
def test_a_dashboard_has_filters_and_says_its_question_and_how_new_it_is(slug: str) -> None:
    page = PAGES[slug]
    assert len(filters_of(page)) >= 2
    assert page["metadata"]["filter_bar_orientation"] == "HORIZONTAL"
    places = [place for place in page["position"].values() if isinstance(place, dict)]
    (text,) = [place["meta"]["code"] for place in places if place.get("type") == "MARKDOWN"]
    assert text.startswith("**")
    assert "?**" in text
    assert "empty" in text or "without anything" in text
    shown = [meta.get("sliceNameOverride") for meta in charts_of(page).values()]
    assert shown.count("Data as of") == 1


def test_every_chart_says_what_it_shows_and_is_on_a_dashboard() -> None:
    charts = [each for each in ASSETS if each.kind == CHARTS]
    assert all(each.content["description"].strip().endswith(".") for each in charts)
    assert len(charts) == len(SHOWN)


@pytest.mark.parametrize("slug", PAGES)
def test_a_phone_shows_one_chart_beside_the_other_and_scrolls_down_only(
    seen: Seen, slug: str
) -> None:
    width, places = seen.on_a_phone[slug]
    assert width <= PHONE
    assert places
    assert all(left >= 0 and right <= PHONE for left, right in places), places

"""The drill's report as people see it, in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from backup.proof.page import human_seconds, page
from backup.proof.report import DrillReport, DrillResult, SlowObject
from backup.restoration.timings import Timings
from tests.browser import SCREENSHOTS, launched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

FIRST = datetime(2026, 1, 1, 6, tzinfo=UTC)
SHARES = {
    "download": 0.1, "schema": 0.01, "data": 0.5, "indexes": 0.31, "analyse": 0.06, "other": 0.02
}  # fmt: skip
NOTES = (
    "public.scans: without its proof, a page of it is damaged",
    "subscription:from_hr: its connection is visible to a superuser alone and is not in the dump",
)
HOSTILE = '<script>document.title = "taken"</script>'


def drill(month: int, *, finding: str = "") -> DrillReport:
    started = FIRST + timedelta(days=30 * month)
    results = [
        DrillResult(
            database=name,
            verdict="different" if finding and name == "records" else "equal",
            backup_id=f"{started:%Y%m%dT%H%M%SZ}-0a1b2c3d",
            backup_bytes=size // 4,
            backup_age_seconds=4 * 3600,
            restore_seconds=seconds * (1 + month / 20),
            source_bytes=size,
            steps=Timings(
                **{step: seconds * (1 + month / 20) * share for step, share in SHARES.items()}
            ),
            slow_objects=(
                SlowObject(
                    kind="INDEX", schema_name="public", name=f"{name}_words", seconds=seconds / 3
                ),
                SlowObject(
                    kind="TABLE DATA", schema_name="public", name=name, seconds=seconds / 4
                ),
                SlowObject(
                    kind="CONSTRAINT", schema_name="public", name=f"{name} {name}_pkey",
                    seconds=seconds / 9,
                ),
            ),
            notes=NOTES if name == "records" else (),
            tables_compared=12,
            rows_compared=120_345,
            findings=(finding,) if finding and name == "records" else (),
        )
        for name, seconds, size in (
            ("hr", 0.3, 8_000_000), ("records", 42, 1_500_000_000), ("warehouse", 700, 9 * 10**9)
        )
    ]  # fmt: skip
    if finding:
        results.append(DrillResult(database="library", verdict="failed", findings=("no backup",)))
    return DrillReport(
        started=started, finished=started + timedelta(minutes=14), databases=tuple(results)
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def screen(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if anything is fetched from anywhere, or a script complains."""
    faults: list[str] = []
    screen = browser.new_page(viewport={"width": 1280, "height": 900})
    screen.on("pageerror", lambda error: faults.append(str(error)))
    screen.on(
        "request",
        lambda asked: None if asked.url.startswith("file:") else faults.append(asked.url),
    )
    yield screen
    screen.close()
    assert not faults


def shown(screen: Page, folder: Path, report: DrillReport, earlier: list[DrillReport]) -> None:
    (folder / "report.html").write_text(page(report, earlier))
    screen.goto(f"file://{folder}/report.html")


def test_a_good_drill_is_seen_at_a_glance(screen: Page, tmp_path: Path) -> None:
    shown(screen, tmp_path, drill(10), [drill(month) for month in range(10)])
    expect(screen.locator(".verdict")).to_have_text(
        "✓ All 3 backups came back whole, sound and within 30 minutes."
    )
    row = screen.get_by_role("row").filter(has_text="warehouse").first
    expect(screen.get_by_text("without its proof")).to_be_visible()
    expect(row).to_contain_text("17 min 30 s")
    expect(row).to_contain_text("15.6 GB")  # 9 GB in 1,018.5 s that grow and 31.5 s that do not
    assert screen.locator("svg polyline").count() == 3
    assert screen.locator("svg circle").count() == 33
    for box in screen.locator(".scroll").all():
        assert box.evaluate("box => box.scrollWidth - box.clientWidth") == 0
    screen.screenshot(path=SCREENSHOTS / "drill-report.png", full_page=True)


def test_what_took_how_long_is_a_bar_of_its_steps(screen: Page, tmp_path: Path) -> None:
    shown(screen, tmp_path, drill(10), [])
    bars = screen.locator(".stack")
    assert bars.count() == 3
    whole = bars.first.bounding_box()
    pieces = [piece.bounding_box() for piece in bars.first.locator("i").all()]
    assert whole is not None
    widths = [piece["width"] / whole["width"] for piece in pieces if piece is not None]
    assert widths == pytest.approx([*SHARES.values()], abs=0.01)
    row = screen.locator(".steps tbody tr").filter(has_text="warehouse")
    expect(row).to_contain_text("rows: 8 min 45 s")
    expect(row).to_contain_text("index public.warehouse_words 3 min 53 s")


def test_a_report_without_steps_has_no_bars(screen: Page, tmp_path: Path) -> None:
    report = drill(0)
    old = [each.model_copy(update={"steps": None}) for each in report.databases]
    shown(screen, tmp_path, report.model_copy(update={"databases": tuple(old)}), [])
    assert screen.locator(".stack").count() == 0


def test_a_bad_drill_says_what_is_wrong_and_strangers_words_stay_words(
    screen: Page, tmp_path: Path
) -> None:
    shown(screen, tmp_path, drill(1, finding=HOSTILE), [drill(0)])
    expect(screen.locator(".verdict")).to_have_text(
        "✗ 2 of 4 backups did not come back as they should."
    )
    expect(screen.get_by_text(HOSTILE)).to_be_visible()
    expect(screen.get_by_text("no backup")).to_be_visible()
    assert screen.title() == "Restore drill of 2026-01-31"
    screen.screenshot(path=SCREENSHOTS / "drill-report-bad.png", full_page=True)


def test_the_first_drill_has_a_chart_of_its_own(screen: Page, tmp_path: Path) -> None:
    shown(screen, tmp_path, drill(0), [])
    assert screen.locator("svg circle").count() == 3
    expect(screen.get_by_text("Of each database the newest backup was restored")).to_be_visible()
    box = screen.locator("svg").bounding_box()
    assert box is not None
    for dot in screen.locator("svg circle").all():
        seen = dot.bounding_box()
        assert seen is not None
        assert box["y"] < seen["y"] < box["y"] + box["height"]


def test_a_drill_of_an_older_moment_tells_it(screen: Page, tmp_path: Path) -> None:
    shown(screen, tmp_path, drill(1).model_copy(update={"at": FIRST}), [])
    told = "Of each database the newest backup from 2026-01-01 06:00:00 UTC or before was restored"
    expect(screen.get_by_text(told)).to_be_visible()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.34, "0.3 s"), (42, "42 s"), (60, "1 min 0 s"), (1050, "17 min 30 s")]
)
def test_times_are_read_by_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text

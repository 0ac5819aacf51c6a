"""The page at a real api-server with the platform's own roles, as browsers of both sizes see it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from cryptography.fernet import Fernet
from playwright.sync_api import expect

from backup.proof.brief import brief
from backup.proof.coverage import Row
from scripts.repository import ROOT
from tests.airflow.harmattan.overview.examples import GOOD, HOSTILE, REFUSED, report
from tests.airflow.harmattan.overview.mirrors import Mirror
from tests.airflow.harmattan.overview.warehouse import make_warehouse
from tests.browser import SCREENSHOTS, launched
from tests.conftest import free_port
from tests.nomad.rendering import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

USERS = {"ama": "Analyst", "kofi": "Public"}
SEED = """
import json, sys
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
with get_application_builder() as builder:
    for name, (role, password) in json.load(sys.stdin).items():
        assert builder.sm.add_user(name, name, name, f"{name}@localhost",
                                   builder.sm.find_role(role), password=password)
"""


@dataclass(frozen=True)
class Service:
    """The api-server, who may in, and the mirror that it reads."""

    url: str
    passwords: dict[str, str]
    serving: ExitStack


@pytest.fixture(scope="module")
def service(
    postgres: PostgresServer,
    metadata_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    home, port = tmp_path_factory.mktemp("airflow"), free_port()
    passwords = {name: secrets.token_urlsafe(12) for name in ("admin", *USERS)}
    admin = {"username": "admin", "password": passwords["admin"]}
    (home / "admin.json").write_text(json.dumps(admin))
    (home / "warehouse_uri").write_text(make_warehouse(postgres, f"w_{secrets.token_hex(3)}"))
    (home / "backups.json").write_text(
        brief(
            [
                Row(name="hr", size=138_400, age_seconds=20_000.0, drilled=datetime.now(UTC)),
                Row(name="records", states=("stale", "drill failed"), age_seconds=200_000.0),
            ],
            datetime.now(UTC),
        )
    )
    mirror = Mirror(home)
    now = datetime.now(UTC).isoformat()
    mirror.write(
        [
            replace(sync, verdict=replace(sync.verdict, time=now), committed=now)
            if sync.verdict.commit == REFUSED
            else sync
            for sync in report().syncs
        ],
        report().contents,
    )
    mirror.stand(GOOD, now)
    mirror.write([])
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home),
        "AIRFLOW_HOME": str(home), "TMPDIR": str(home),
        "PYTHONPATH": f"{ROOT}/airflow:{ROOT}/airflow/config:{ROOT}",
        "AIRFLOW_CONFIG": str(ROOT / "airflow/config/airflow.cfg"),
        "AIRFLOW__FAB__CONFIG_FILE": str(ROOT / "airflow/config/webserver_config.py"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata_database().replace(
            "postgresql:", "postgresql+psycopg2:"
        ),
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "airflow/plugins"),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "HARMATTAN_WEBSERVER_ROLE": "postgres",
        "HARMATTAN_CLEAN_ROLE": "nobody",
        "HARMATTAN_ADMIN_FILE": str(home / "admin.json"),
        "HARMATTAN_MIRROR": mirror.url,
        "HARMATTAN_BACKUPS": str(home / "backups.json"),
        "HARMATTAN_WAREHOUSE_URI": str(home / "warehouse_uri"),
    }  # fmt: skip
    (task,) = [each for each in tasks("airflow-webserver") if each["Name"] == "webserver"]
    assert {name for name in environ if name.startswith("HARMATTAN_")} - {
        "HARMATTAN_WEBSERVER_ROLE", "HARMATTAN_CLEAN_ROLE", "HARMATTAN_ADMIN_FILE"
    } <= set(task["Env"])  # fmt: skip
    python = [sys.executable, "-W", "ignore"]
    users = {name: (role, passwords[name]) for name, role in USERS.items()}
    for words, given in ((["-m", "harmattan.migrate"], ""), (["-c", SEED], json.dumps(users))):
        done = subprocess.run(
            [*python, *words], env=environ, cwd=home, timeout=180, input=given, text=True,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    log = home / "log"
    server = [*python, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]
    with (
        ExitStack() as serving,
        log.open("wb") as output,
        subprocess.Popen(server, env=environ, cwd=home, stdout=output, stderr=output,
                         start_new_session=True) as process,
    ):  # fmt: skip
        serving.enter_context(mirror.serving())
        try:
            deadline = time.monotonic() + 240
            while True:
                assert process.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                try:
                    if requests.get(f"http://127.0.0.1:{port}/api/v2/version", timeout=30).ok:
                        break
                except (requests.ConnectionError, requests.Timeout):
                    time.sleep(0.2)
            yield Service(f"http://127.0.0.1:{port}", passwords, serving)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


def logged_in(browser: Browser, service: Service, name: str) -> BrowserContext:
    """Follow a link as a forge shows it, by way of the login."""
    context = browser.new_context(
        base_url=service.url, viewport={"width": 1440, "height": 900}, service_workers="block"
    )
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.goto(f"/delivery/{REFUSED}")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(service.passwords[name])
    page.get_by_role("button", name="Sign In").or_(page.locator("input[type=submit]")).first.click()
    page.wait_for_url(f"**/delivery/{REFUSED}")
    return context


@pytest.fixture(scope="module")
def analyst(browser: Browser, service: Service) -> BrowserContext:
    return logged_in(browser, service, "ama")


@pytest.fixture
def page(analyst: BrowserContext) -> Iterator[Page]:
    found = analyst.new_page()
    yield found
    found.close()


def test_only_who_may_see_import_errors_sees_it_and_nothing_can_be_sent(
    service: Service, browser: Browser, analyst: BrowserContext
) -> None:
    stranger = logged_in(browser, service, "kofi")
    for path in ("", REFUSED, "style.css"):
        assert requests.get(f"{service.url}/delivery/{path}", timeout=60).status_code == 401
        assert stranger.request.get(f"/delivery/{path}").status == 403
    shown = analyst.request.get(f"/delivery/{REFUSED[:7]}")
    assert shown.status == 200
    assert "task fetch reaches out and has 0 retries" in shown.text()
    policy = shown.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    for unknown in ("0" * 40, REFUSED[:6], "main"):
        answer = analyst.request.get(f"/delivery/{unknown}")
        assert (answer.status, "No such push" in answer.text()) == (404, True)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert analyst.request.fetch(f"/delivery/{REFUSED}", method=method).status == 405, method


def test_it_is_in_airflows_menu_as_the_models_are(page: Page) -> None:
    page.goto("/dags")
    page.get_by_role("button", name="Plugins").click()
    expect(page.get_by_role("menuitem", name="Models")).to_be_visible()
    with page.expect_popup() as opened:
        page.get_by_role("menuitem", name="Delivery").click()
    expect(opened.value.get_by_role("heading", name="Delivery")).to_be_visible()
    opened.value.close()


# All text that is shown, with the contrast of its colour to the ground below it (WCAG 2.1).
CONTRAST = """() => {
  const parts = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => { const [r, g, b] = parts(c).slice(0, 3).map(v => (v /= 255) <= 0.03928
    ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; if ((parts(c)[3] ?? 1) > 0) return c; }
    return 'rgb(255, 255, 255)'; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), poor = [];
  while (walk.nextNode()) { const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !e.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(walk.currentNode.data.trim()); }
  return poor; }"""


@pytest.mark.parametrize("width", [1440, 390])
def test_it_can_be_read_at_both_widths_in_light_and_dark(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        compared = f"/delivery/{'d4' * 20}?against={REFUSED}"
        for name, path in (("", "/delivery/"), ("-commit", compared)):
            page.goto(path)
            for summary in page.locator("td > details > summary").all():
                summary.click()
            assert page.get_by_text(HOSTILE).first.is_visible()
            assert page.get_by_text("stale, drill failed").is_visible() == (name == "")
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert page.evaluate(CONTRAST) == []
            page.screenshot(
                path=SCREENSHOTS / f"delivery{name}-{width}-{scheme}.png", full_page=True
            )
    assert errors == []


def test_everything_is_reached_by_the_keyboard(page: Page) -> None:
    page.goto("/delivery/")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(e => [e.tagName, e.textContent.trim(), getComputedStyle(e).outlineStyle])"
                "(document.activeElement)"
            )
        )
    assert reached[0][1] == "Skip to the content"
    assert all(outline == "solid" for tag, _, outline in reached if tag != "BODY")
    wanted = page.locator("main a, main summary:visible").all_inner_texts()
    names = [text for _, text, _ in reached]
    assert [each for each in wanted if each.strip() not in names] == []
    page.get_by_text("3 findings").focus()
    page.keyboard.press("Enter")
    assert page.get_by_text("Variable.get at the top of the file").is_visible()
    page.get_by_role("link", name=REFUSED[:10]).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/delivery/{REFUSED}")
    page.get_by_label("Compare with").select_option("d4" * 20)
    page.get_by_role("button", name="Compare").press("Enter")
    page.wait_for_url(f"**/delivery/{REFUSED}?against={'d4' * 20}")
    assert page.get_by_text("1 gone, 2 new, 1 the same").is_visible()
    assert page.get_by_text("files 2 added, 0 changed, 121 removed").is_visible()


def test_while_the_mirror_is_away_it_shows_what_it_knew_and_says_so(
    service: Service, analyst: BrowserContext
) -> None:
    assert "does not answer" not in analyst.request.get("/delivery/").text()
    service.serving.close()
    deadline = time.monotonic() + 30
    while "The mirror does not answer." not in (text := analyst.request.get("/delivery/").text()):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert REFUSED in text
    assert "The warehouse does not answer" not in text
    assert "unique (ticket_id)" in text

"""What a browser meets: headers, cookies, and nothing that leads elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import requests

from tests.conftest import free_port
from tests.dashboards.service import started

if TYPE_CHECKING:
    from tests.dashboards.service import Service

pytestmark = pytest.mark.programs


def test_a_page_may_load_nothing_from_elsewhere(superset: Service) -> None:
    answer = requests.get(f"{superset.url}/login/", timeout=60)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert not re.search(r"https?:|unsafe-eval", policy), policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]+', answer.text)
    assert "scarf" not in answer.text


def test_a_cookie_is_for_the_server_alone(superset: Service) -> None:
    session = superset.login("head")
    answer = session.call("GET", "/login/")
    cookies = [*answer.raw.headers.getlist("Set-Cookie")] or [
        str(each.__dict__) for each in session.cookies
    ]
    assert cookies
    for cookie in cookies:
        assert "HttpOnly" in cookie, cookie


def test_behind_a_proxy_a_cookie_is_for_https_alone(superset: Service) -> None:
    behind = replace(superset, port=free_port())
    said = {"X-Forwarded-Proto": "https"}
    with started(behind, DASHBOARDS_PLAIN_HTTP="", FORWARDED_ALLOW_IPS="127.0.0.1"):
        answer = requests.get(f"{behind.url}/login/", headers=said, timeout=60)
    cookies = answer.raw.headers.getlist("Set-Cookie")
    assert cookies
    for cookie in cookies:
        assert "Secure" in cookie, cookie


def test_a_request_that_another_site_forged_is_refused(superset: Service) -> None:
    session = superset.login("analyst")
    del session.headers["X-CSRFToken"]
    answer = session.call("POST", "/api/v1/dashboard/", json={"dashboard_title": "forged"})
    assert answer.status_code == 400
    assert superset.query("SELECT 1 FROM dashboards WHERE dashboard_title = 'forged'") == []


def test_another_database_gets_no_password_of_the_warehouse(superset: Service) -> None:
    """An administrator who adds the warehouse under another server's name must not learn it."""
    session = superset.login("operator")
    body = {
        "database_name": "elsewhere",
        "sqlalchemy_uri": f"postgresql://{superset.role('bi')}@127.0.0.1:1/postgres",
    }
    answer = session.call("POST", "/api/v1/database/test_connection/", json=body)
    assert answer.status_code >= 400
    assert superset.warehouse not in answer.text + superset.log()


def test_a_wrong_password_is_not_let_in_and_not_logged(superset: Service) -> None:
    page = requests.Session()
    (token,) = re.findall(
        r'id="csrf_token"\s+value="([^"]+)"', page.get(f"{superset.url}/login/", timeout=60).text
    )
    data = {"username": "head", "password": "not-the-password", "csrf_token": token}
    done = page.post(f"{superset.url}/login/", data=data, allow_redirects=False, timeout=60)
    assert "/login" in done.headers.get("Location", "/login")
    assert page.get(f"{superset.url}/api/v1/me/", timeout=60).status_code == 401
    assert "not-the-password" not in superset.log()

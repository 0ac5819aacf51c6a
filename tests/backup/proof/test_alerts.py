"""What is told to the outside, by a real HTTP server: with retries, never in the run's way."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from backup.proof.alerts import Alerts
from frame.failure import WrongUse
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from tests.backup.conftest import House


def told(url: str = "", ping: str = "") -> Alerts:
    return Alerts.model_validate({"webhook": url, "ping": ping})


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no time pass between two attempts."""
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))


def test_a_good_backup_resets_its_own_switch(house: House) -> None:
    with http_server() as hook:
        url = f"{hook.url}/switch-of-hush/"
        house.secret("alerts.json", json.dumps({"webhook": "", "ping": url}))
        ended = house.run("run", "hr")
        assert ended.returncode == 0, ended.stderr
        assert [request.path for request in hook.requests] == ["/switch-of-hush/hr"]
        (house.settings.secrets_dir / "recipients.asc").unlink()
        assert house.run("run", "hr").returncode == 2
        assert len(hook.requests) == 1, "a run that failed resets nothing"
    ended = house.run("run", "hr")
    assert "hush" not in ended.stderr, "the URL is a secret"


def test_a_drill_that_found_something_is_told(backed_up: House) -> None:
    backed_up.secret("signers.json", json.dumps({"hr": "no key"}))
    with http_server() as hook:
        alerts = {"webhook": f"{hook.url}/", "ping": ""}
        backed_up.secret("alerts.json", json.dumps(alerts))
        ended = backed_up.run("drill", "hr", unprivileged=True)
    assert ended.returncode == 1
    (body,) = hook.posts
    assert (body["job"], body["findings"][0]["database"]) == ("restore-drill", "hr")


@pytest.mark.usefixtures("no_waiting")
def test_an_answer_that_may_change_is_waited_for() -> None:
    with http_server(Answer(503), Answer(429), Answer(200)) as hook:
        told(f"{hook.url}/").failed("job", "local", [])
    assert len(hook.posts) == 3
    with http_server(Answer(404)) as hook:
        told(f"{hook.url}/").failed("job", "local", [])
    assert len(hook.posts) == 1


@pytest.mark.usefixtures("no_waiting")
def test_nobody_there_fails_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with http_server() as hook:
        gone = f"{hook.url}/"
    for url in (gone, "no URL"):
        told(url, url).failed("job", "local", [])
        told(url, url).good("hr")
    said: list[Any] = [record.msg for record in caplog.records]
    assert [line["event"] for line in said] == ["alert not delivered", "ping not delivered"] * 2
    assert "no URL" not in str(said)


def test_without_a_url_nobody_is_told(caplog: pytest.LogCaptureFixture) -> None:
    told().good("hr")
    told().failed("job", "local", [])
    assert caplog.records == []


def test_a_file_that_is_no_alerts_is_told_without_what_it_holds(empty_house: House) -> None:
    assert Alerts.of(empty_house.settings) == Alerts()
    empty_house.secret("alerts.json", '{"webhook": ["https://hush"]}')
    with pytest.raises(WrongUse, match=r"alerts\.json is not JSON of the form") as caught:
        Alerts.of(empty_house.settings)
    assert "hush" not in caught.value.message


def test_an_error_that_nobody_expected_is_told_by_its_name_alone() -> None:
    with http_server() as hook:
        alerts = told(f"{hook.url}/")
        with pytest.raises(ZeroDivisionError), alerts.if_it_breaks("job", "local"):
            raise ZeroDivisionError("hush")
    assert hook.posts[0]["findings"] == [{"error": "ZeroDivisionError"}]

"""How Nomad's answers are read. The server here only has their shape; see the e2e tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery import nomad as asking
from delivery.settings import PublishSettings
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.http_server import HttpServer

ALLOC = "11111111-2222-3333-4444-555555555555"


def allocation(code: int | None, failed: bool = False, **event: Any) -> dict[str, Any]:
    events = [{"Type": "Received"}, {"Type": "Task Setup"}, {"Type": "Started"}]
    if code is not None:
        details = {"exit_code": str(code), "signal": "0", "oom_killed": "false"}
        events.append({"Type": "Terminated", "ExitCode": code, "Signal": 0, "Details": details}
                      | event)  # fmt: skip
    return {
        "ID": ALLOC,
        "TaskStates": {"judge": {"State": "dead", "Failed": failed, "Events": events}},
    }


def changed(value: dict[str, Any], **state: Any) -> dict[str, Any]:
    value["TaskStates"]["judge"] |= state
    return value


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (allocation(0), "sound"),
        (allocation(0, Details=None), "sound"),
        (allocation(1, failed=True), "refused"),
        (allocation(0, failed=True), "unknown"),
        (allocation(4, failed=True), "unknown"),
        (allocation(137, failed=True, Signal=9), "unknown"),
        (allocation(0, Signal=9), "unknown"),
        (allocation(0, Details={"exit_code": "0", "oom_killed": "true"}), "unknown"),
        (allocation(0, Details={"exit_code": "1"}), "unknown"),
        (allocation(1, ExitCode=0), "unknown"),
        (allocation(None), "unknown"),
        (changed(allocation(0), Failed=None), "unknown"),
        (changed(allocation(0), Events=None), "unknown"),
        (changed(allocation(0), State="running"), None),
        (changed(allocation(0), State="pending"), None),
        (allocation(0) | {"ID": "another"}, "unknown"),
        (allocation(0) | {"TaskStates": None}, "unknown"),
        (allocation(0) | {"TaskStates": {"fetch": {}}}, "unknown"),
        ([], "unknown"),
        (None, "unknown"),
    ],
)
def test_only_a_clean_end_with_0_is_sound(answer: object, outcome: str | None) -> None:
    word = asking.read(answer, ALLOC, "judge")
    assert (word.outcome if word else None) == outcome


def test_the_last_end_counts_when_the_judge_ran_twice() -> None:
    answer = allocation(0)
    events = answer["TaskStates"]["judge"]["Events"]
    events += [{"Type": "Restarting"}, {"Type": "Started"}, {"Type": "Terminated", "ExitCode": 1}]
    word = asking.read(answer, ALLOC, "judge")
    assert word is not None
    assert word.outcome == "refused"


@pytest.fixture
def settings(nomad: HttpServer, tmp_path: Path) -> PublishSettings:
    (tmp_path / "token").write_text("a-token\n")
    return PublishSettings(
        alloc_id=ALLOC, nomad_address=nomad.url,
        token_file=tmp_path / "token", nomad_seconds=1,
    )  # fmt: skip


@pytest.mark.slow
def test_it_waits_until_the_end_is_recorded(nomad: HttpServer, settings: PublishSettings) -> None:
    running = changed(allocation(0), State="running")
    nomad.answer(
        Answer(403, "Permission denied"),
        Answer(500, b"no leader"),
        Answer(body=running),
        Answer(body=allocation(0)),
    )
    assert asking.ask(settings.model_copy(update={"nomad_seconds": 20})).outcome == "sound"
    asked = [(each.path, each.headers["X-Nomad-Token"]) for each in nomad.requests]
    assert asked == [(f"/v1/allocation/{ALLOC}", "a-token")] * 4


@pytest.mark.parametrize(
    "answer",
    [
        Answer(403, "Permission denied"),
        Answer(404, "alloc not found"),
        Answer(200, b"not json"),
        Answer(200, b"[" * 100_000),
        Answer(302),
        Answer(200, changed(allocation(0), State="running")),
    ],
    ids=["refused", "not found", "no JSON", "too deep", "moved", "still running"],
)
def test_no_answer_means_no(nomad: HttpServer, settings: PublishSettings, answer: Answer) -> None:
    nomad.answer(answer)
    word = asking.ask(settings)
    assert word.outcome == "unknown"
    assert "did not tell" in word.reason


def test_a_nomad_that_is_not_there_and_a_token_that_is_missing_mean_no(
    settings: PublishSettings, tmp_path: Path
) -> None:
    away = settings.model_copy(update={"nomad_address": "http://127.0.0.1:1", "nomad_seconds": 1})
    assert asking.ask(away).outcome == "unknown"
    lost = settings.model_copy(update={"token_file": tmp_path / "absent", "nomad_seconds": 1})
    assert asking.ask(lost).outcome == "unknown"


def test_it_asks_over_the_tasks_own_socket(settings: PublishSettings, tmp_path: Path) -> None:
    socket = tmp_path / "api.sock"
    with http_server(Answer(body=allocation(0)), socket=socket):
        word = asking.ask(settings.model_copy(update={"nomad_address": f"unix://{socket}"}))
    assert word.outcome == "sound"

"""How Nomad's answers are read. The server here only has their shape; see the e2e tests."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from delivery import nomad as asking
from delivery.settings import PublishSettings

if TYPE_CHECKING:
    from pathlib import Path

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
def settings(nomad: Any, tmp_path: Path) -> PublishSettings:
    (tmp_path / "token").write_text("a-token\n")
    return PublishSettings(
        alloc_id=ALLOC, nomad_address=f"http://127.0.0.1:{nomad.port}",
        token_file=tmp_path / "token", nomad_seconds=1,
    )  # fmt: skip


def test_it_waits_until_the_end_is_recorded(nomad: Any, settings: PublishSettings) -> None:
    running = changed(allocation(0), State="running")
    nomad.say((403, "Permission denied"), (500, b"no leader"), (200, running), (200, allocation(0)))
    assert asking.ask(settings.model_copy(update={"nomad_seconds": 20})).outcome == "sound"
    assert nomad.asked == [(f"/v1/allocation/{ALLOC}", "a-token")] * 4


@pytest.mark.parametrize(
    "answer",
    [(403, "Permission denied"), (404, "alloc not found"), (200, b"not json"),
     (200, b"[" * 100_000), (302, b""), (200, changed(allocation(0), State="running"))],
)  # fmt: skip
def test_no_answer_means_no(nomad: Any, settings: PublishSettings, answer: Any) -> None:
    nomad.say(answer)
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
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(allocation(0)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "socket"

    socket = tmp_path / "api.sock"
    with socketserver.UnixStreamServer(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        word = asking.ask(settings.model_copy(update={"nomad_address": f"unix://{socket}"}))
        server.shutdown()
        thread.join(5)
    assert word.outcome == "sound"

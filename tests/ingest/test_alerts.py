"""What a webhook hears of runs: each failure once, and the recovery after it."""

from __future__ import annotations

import dataclasses
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import tenacity

from frame.failure import Failure
from ingest import connections, reading, run
from ingest.errors import CheckFailedError, UnknownConnectionError
from tests.conftest import free_port
from tests.http_server import Answer, http_server
from tests.ingest.world import publish, stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingest.job import Job
    from tests.ingest.world import World

STRICT = "name: public.a\n    checks: {rows: {min: 9}}"
HEAD = "alert: hook\n"


@pytest.fixture
def school(world: World) -> World:
    world.at_source("CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1), (2)")
    return world


def job(world: World, hook: connections.Entry | str, *tables: str, head: str = HEAD) -> Job:
    """Return a job whose connection ``hook`` is a webhook at that URL."""
    entry = connections.Entry("hook", "http", hook) if isinstance(hook, str) else hook

    def resolve(connection_id: str) -> connections.Entry:
        return entry if connection_id == "hook" else world.resolve(connection_id)

    return dataclasses.replace(world.job(*tables, head=head), resolve=resolve)


def end_the_run(world: World, moment: str) -> None:
    """End the session that holds the pipeline's lock, when the warehouse has such a query."""
    for _ in range(200):
        if world.rows("SELECT FROM pg_stat_activity WHERE query LIKE %s AND state = 'active'"
                      " AND usename IN ('ingest_loader', 'ingest_checks')", moment):  # fmt: skip
            assert world.rows("SELECT pg_terminate_backend(pid) FROM pg_locks"
                              " WHERE locktype = 'advisory' AND granted")  # fmt: skip
            return
        time.sleep(0.05)


def fail(world: World, hook: connections.Entry | str, *, head: str = HEAD) -> Job:
    failing = job(world, hook, STRICT, "public.b", head=head)
    with pytest.raises(CheckFailedError):
        run.run(failing, alert=True)
    return failing


def test_a_failure_and_the_recovery_are_told_once_each_and_a_good_run_is_not(
    school: World,
) -> None:
    school.at_source("CREATE TABLE b ()")
    with http_server() as hook:
        url = f"{hook.url}/services/T0?token=t0"
        failing = fail(school, url)
        again = job(school, url, "public.*")
        run.run(again, alert=True)
        run.run(job(school, url, "public.*"), alert=True)
        (failed, recovered), (request, _) = hook.posts, hook.requests
    assert request.path == "/services/T0?token=t0"
    assert request.headers["Content-Type"] == "application/json"
    same = {"pipeline": "hr", "source": "hr", "schema": "raw_hr", "owner": "people-analytics"}
    ago = datetime.now(UTC) - datetime.fromisoformat(failed.pop("at"))
    assert timedelta(0) <= ago < timedelta(minutes=5)
    reason = failed.pop("reason")
    assert "table raw_hr.a: rows.min: expected at least 9 rows, found 2" in reason
    assert "HINT: " in reason
    where = {"table": "raw_hr.a", "step": "audit", "log_url": ""}
    assert failed == {"status": "failed", "run_id": failing.run_id, **same, **where}
    del recovered["at"]
    nothing = dict.fromkeys(("table", "step", "reason"))
    assert recovered == {
        "status": "recovered", "run_id": again.run_id, **same, **nothing, "log_url": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "step", "table"),
    [("COPY %", "extract", None), ("%pg_sleep(1)%", "audit", "raw_hr.a")],
)
def test_a_run_whose_session_is_lost_is_written_down_by_another_and_its_recovery_told(
    school: World, moment: str, step: str, table: str | None
) -> None:
    school.at_source("CREATE VIEW slow AS SELECT id, pg_sleep(1)::text AS nap FROM a")
    check = '{sql: {slow: "select pg_sleep(1) is not null from {table} limit 1"}}'
    with http_server() as hook, ThreadPoolExecutor(1) as pool:
        url = f"{hook.url}/"
        pool.submit(end_the_run, school, moment)
        failing = job(school, url, f"name: public.a\n    checks: {check}", "public.slow")
        with pytest.raises(Failure, match=r"terminating|is lost|is closed"):
            run.run(failing, alert=True)
        assert school.rows('SELECT status, step, "table", finished_at IS NULL FROM ops.runs') == [
            ("failed", step, table, False)
        ]
        run.run(job(school, url, "public.a"), alert=True)
    assert [post["status"] for post in hook.posts] == ["failed", "recovered"]


def test_a_run_that_is_done_again_and_goes_well_is_a_recovery_too(school: World) -> None:
    school.at_source("CREATE TABLE b ()")
    with http_server() as hook:
        failing = fail(school, f"{hook.url}/")
        school.at_source("INSERT INTO a SELECT generate_series(3, 9)")
        run.run(failing, alert=True)
    assert [post["status"] for post in hook.posts] == ["failed", "recovered"]
    assert school.rows("SELECT status, attempts, error FROM ops.runs") == [("success", 2, None)]


def test_a_run_of_which_only_the_failed_step_is_done_again_ends_well(school: World) -> None:
    run.run(school.job("public.a"))
    again = school.job("public.a", head="publish: {wait: 0s}\n")
    with again.warehouse() as target:
        (staged,), _ = stage(again, target)
        run.audit(again, target, staged)
        with psycopg.connect(school.warehouse_admin) as reader:
            reader.execute("SELECT count(*) FROM raw_hr.a")
            with pytest.raises(Failure, match="found it held by postgres"):
                publish(again, target, [staged])
            assert not run.finish(again, target)
        status = "SELECT status, step FROM ops.runs WHERE run_id = %s"
        assert school.rows(status, again.run_id) == [("failed", "publish")]
        publish(again, target, [staged])
        assert run.finish(again, target)
        assert school.rows(status, again.run_id) == [("success", None)]


def test_a_run_that_could_not_write_of_its_fault_is_no_success_in_ops(
    school: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.journal._FAILED", "SELECT 1 / 0")
    with pytest.raises(CheckFailedError):
        run.run(school.job(STRICT))
    ((status, error),) = school.rows("SELECT status, error FROM ops.runs")
    assert status == "failed"
    assert "rows.min: expected at least 9 rows, found 2" in error


def test_a_run_that_could_not_begin_is_told_too(
    school: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSES", (0.1,))
    with http_server() as hook:
        away = connections.Entry("hr", "postgresql", f"postgresql://u@127.0.0.1:{free_port()}/hr")
        found = job(school, f"{hook.url}/", "public.a")
        resolve = found.resolve
        found = dataclasses.replace(
            found, resolve=lambda name: away if name == "hr" else resolve(name)
        )
        with pytest.raises(Failure, match="source hr: expected a connection"):
            run.run(found, alert=True)
        (post,) = hook.posts
    assert (post["status"], post["table"]) == ("failed", None)
    assert "source hr: expected a connection, found" in post["reason"]


def test_nothing_is_told_unless_the_file_and_the_caller_ask_for_it(school: World) -> None:
    with http_server() as hook:
        url = f"{hook.url}/"
        school.at_source("CREATE TABLE b ()")
        fail(school, url, head="")
        run.run(job(school, url, "public.*", head=""), alert=True)
        with pytest.raises(CheckFailedError):
            run.run(job(school, url, STRICT))
        assert hook.posts == []


def test_a_pipeline_without_alerts_needs_no_connection_for_them(school: World) -> None:
    school.at_source("CREATE TABLE b ()")

    def resolve(connection_id: str) -> connections.Entry:
        assert connection_id in {"hr", "warehouse"}
        return school.resolve(connection_id)

    found = dataclasses.replace(school.job(STRICT), resolve=resolve)
    with pytest.raises(CheckFailedError):
        run.run(found, alert=True)


@pytest.mark.parametrize("busy", [429, 503])
def test_a_webhook_that_is_busy_is_asked_again(school: World, busy: int) -> None:
    school.at_source("CREATE TABLE b ()")
    with http_server(Answer(busy), Answer(204)) as hook:
        fail(school, f"{hook.url}/")
        first, second = hook.posts
    assert first == second


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_a_webhook_that_refuses_is_asked_once(
    school: World, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    school.at_source("CREATE TABLE b ()")
    with http_server(Answer(status)) as hook:
        fail(school, f"{hook.url}/s3cret")
        assert len(hook.posts) == 1
    assert (
        "alert not delivered to connection hook: expected success, found HTTP status"
        f" {status}" in caplog.text
    )
    assert "s3cret" not in caplog.text


def renamed(found: Job, name: str) -> Job:
    """Return the job as one of another pipeline file, with a schema of its own."""
    pipeline = found.pipeline.model_copy(update={"published_schema": f"raw_{name}"})
    return dataclasses.replace(found, name=name, pipeline=pipeline)


@contextmanager
def closed() -> Iterator[str]:
    yield f"127.0.0.1:{free_port()}"


@contextmanager
def mute() -> Iterator[str]:
    """A server whose backlog takes the connection, and that never reads from it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def answering(*statuses: int) -> Iterator[str]:
    with http_server(*map(Answer, statuses)) as hook:
        yield hook.address
        assert len(hook.posts) == 5


def test_a_webhook_that_is_away_keeps_no_run_for_long_and_fails_no_data(
    school: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All kinds of being away at the same time: each is asked as often as it would be."""
    monkeypatch.setattr("frame.posting._TIMEOUT", 1.0)
    monkeypatch.setattr("frame.posting._WAIT", tenacity.wait_fixed(0.2))
    kinds = {
        "closed": closed(),
        "mute": mute(),
        "busy": answering(503),
        "broken": answering(500),
    }
    school.at_source("CREATE TABLE b ()")
    caplog.set_level(logging.INFO)
    with ExitStack() as stack, ThreadPoolExecutor(len(kinds)) as pool:
        jobs: list[Job] = []
        for name, kind in kinds.items():
            url = f"http://{stack.enter_context(kind)}/s3cret?token=s3cret"
            failing, good = job(school, url, STRICT), job(school, url, "public.*")
            with pytest.raises(CheckFailedError):
                run.run(renamed(failing, name))
            jobs.append(renamed(good, name))
        began = time.monotonic()
        reports = list(pool.map(lambda each: run.run(each, alert=True), jobs))
        took = time.monotonic() - began
    assert [[each.rows for each in report.loaded] for report in reports] == [[2, 0]] * len(kinds)
    assert took < 60
    said = [r.getMessage() for r in caplog.records if r.name == "ingest.alerts"]
    assert sorted(line.partition(": ")[2] for line in said) == [
        "expected an answer, found ConnectError",
        "expected an answer, found none within 1 s",
        "expected success, found HTTP status 500",
        "expected success, found HTTP status 503",
    ]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    ("parts", "extra"),
    [
        ({"host": ""}, {}),
        ({"host": "http://[half/"}, {}),
        ({"host": "http://127.0.0.1:1\x00/"}, {}),
        ({"host": "127.0.0.1", "port": "s3cret"}, {}),
        ({"host": "http://127.0.0.1:9/"}, {"headers": {"X-Key": "s3cret \u025b"}}),
        ({"host": "http://127.0.0.1:9/"}, {"headers": "s3cret"}),
    ],
)
def test_a_connection_that_is_no_webhook_is_named_and_fails_no_data(
    school: World, parts: dict[str, Any], extra: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    school.at_source("CREATE TABLE b ()")
    fail(school, "http://127.0.0.1:9/", head="")
    entry = connections.Entry("hook", "http", "", parts, extra)
    report = run.run(job(school, entry, "public.*"), alert=True)
    assert [each.rows for each in report.loaded] == [2, 0]
    assert "alert not delivered to connection hook: " in caplog.text
    assert "s3cret" not in caplog.text


def test_an_answer_counts_by_its_status_and_not_by_what_it_says(
    school: World, caplog: pytest.LogCaptureFixture
) -> None:
    school.at_source("CREATE TABLE b ()")
    with http_server(Answer(200, b"noted", {"Content-Encoding": "gzip"})) as hook:
        fail(school, f"{hook.url}/")
        assert len(hook.posts) == 1
    assert "not delivered" not in caplog.text


def test_a_webhook_that_no_connection_names_fails_no_data(
    school: World, caplog: pytest.LogCaptureFixture
) -> None:
    def resolve(connection_id: str) -> connections.Entry:
        if connection_id == "hook":
            raise UnknownConnectionError("connection hook: expected it", hint="Ask for it.")
        return school.resolve(connection_id)

    school.at_source("CREATE TABLE b ()")
    found = dataclasses.replace(school.job(STRICT, head=HEAD), resolve=resolve)
    with pytest.raises(CheckFailedError, match=r"rows\.min"):
        run.run(found, alert=True)
    assert "alert not delivered to connection hook: connection hook: expected it" in caplog.text

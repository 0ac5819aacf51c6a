"""The command of the jobs ingest-<source>, started as Nomad starts it."""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from frame.failure import ExitCode, Failure
from ingest.errors import CheckFailedError
from ingest.nomad import MOST_BYTES, summary
from ingest.release import Loaded
from ingest.report import Report
from scripts.cluster import NomadError, connect
from scripts.health.observing import health
from scripts.jobs import Namespaces
from tests import forked
from tests.conftest import free_port
from tests.http_server import http_server
from tests.ingest.killed import settle
from tests.ingest.world import World
from tests.nomad.agent import running_nodes
from tests.nomad.rendering import rendered

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.cluster import Nomad

LOG_URL = "https://airflow.example.org/dags/ingest_hr/runs/1"
STRICT = "name: public.b\n    checks: {rows: {min: 9}}"


pytestmark = pytest.mark.programs  # git's daemon


def git(*words: str | Path) -> str:
    return subprocess.check_output(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], text=True
    ).strip()


@dataclass
class Launches:
    """A mirror that git's own daemon serves, and the secrets of the job ``ingest-hr``."""

    world: World
    mirror: Path
    url: str
    connections: dict[str, Any] = field(default_factory=dict)
    timeout: str = "2m"

    def deliver(self, *tables: str, head: str = "", name: str = "hr") -> str:
        """Make a pipeline file of these ``tables`` live and return the commit."""
        self.world.file(*tables, head=head)
        return self.deliver_text((self.world.folder / "hr.yaml").read_text(), name)

    def deliver_text(self, text: str, name: str = "hr") -> str:
        work = self.mirror / "work"
        (work / "pipelines").mkdir(exist_ok=True)
        (work / f"pipelines/{name}.yaml").write_text(text)
        git("-C", work, "add", "--all")
        git("-C", work, "commit", "--quiet", "--allow-empty", "--message", "Deliver")
        git("-C", work, "push", "--quiet", self.mirror / "pipelines.git", "HEAD:refs/heads/live")
        return git("-C", work, "rev-parse", "HEAD")

    def environment(self, **meta: str) -> dict[str, str]:
        """Write the connections, and return the environment of a launch."""
        file = self.world.folder / "connections.json"
        file.write_text(json.dumps(self.connections))
        asked = {"pipeline": "hr", "run_id": "scheduled__1", **meta}
        clean = {name: value for name, value in os.environ.items() if "CONN" not in name}
        return (
            clean
            | {f"NOMAD_META_{name.upper()}": value for name, value in asked.items()}
            | {
                "HARMATTAN_SOURCE": "hr",
                "HARMATTAN_MIRROR": self.url,
                "HARMATTAN_CONNECTIONS": str(file),
                "HARMATTAN_TIMEOUT": self.timeout,
            }
        )

    def start(self, **meta: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ingest", "job"],
            env=self.environment(**meta),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, **meta: str) -> Ended:
        done = forked.run("ingest", "job", env=self.environment(**meta), timeout=60)
        assert not (self.world.folder / "connections.json").exists()
        return Ended(done.returncode, done.stdout, done.stderr, self.connections)


@dataclass(frozen=True)
class Ended:
    """How a launch ended; no secret is in what it said."""

    code: int
    stdout: str
    stderr: str
    connections: dict[str, Any]

    def __post_init__(self) -> None:
        for secret in self.connections.values():
            uri = secret.get("conn_uri", "password:s3cret")
            for word in (uri, _password(uri)):
                assert word not in self.stdout + self.stderr
        assert "Traceback" not in self.stderr

    @property
    def summary(self) -> dict[str, Any]:
        last = self.stdout.splitlines()[-1]
        assert len(last) <= MOST_BYTES
        return json.loads(last)  # type: ignore[no-any-return]


def _password(uri: str) -> str:
    return uri.partition("://")[2].partition("@")[0].partition(":")[2] or uri


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder, port = tmp_path_factory.mktemp("mirror"), free_port()
    git("init", "--quiet", "--bare", folder / "pipelines.git")
    git("init", "--quiet", folder / "work")
    serving = subprocess.Popen(
        [f"{git('--exec-path')}/git-daemon", "--export-all", "--reuseaddr",
         f"--base-path={folder}", "--listen=127.0.0.1", f"--port={port}"],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    url = f"git://127.0.0.1:{port}"
    while subprocess.run(["git", "ls-remote", f"{url}/pipelines.git"], capture_output=True,
                         check=False).returncode:  # fmt: skip
        assert serving.poll() is None
    yield folder, url
    serving.terminate()
    serving.communicate(timeout=10)


@pytest.fixture
def launches(world: World, daemon: tuple[Path, str]) -> Launches:
    world.at_source(
        "CREATE TABLE a (id int PRIMARY KEY, name text)",
        "INSERT INTO a SELECT n, 'Ada Lovelace ' || n FROM generate_series(1, 7) n",
        "CREATE TABLE b (id int PRIMARY KEY)",
        "INSERT INTO b VALUES (1), (2)",
    )
    uris = {"hr": world.source, "warehouse": world.warehouse, "warehouse_checks": world.checks}
    uris["hash_key"] = f"generic://:{world.hash_key}@hash"
    return Launches(world, *daemon, {name: {"conn_uri": uri} for name, uri in uris.items()})


@pytest.fixture
def at_no_server(daemon: tuple[Path, str], tmp_path: Path) -> Launches:
    """What needs the mirror alone: no server has these connections."""
    uri = "postgresql://nobody:s3cret-s3cret@127.0.0.1:9/none"
    connections = {name: {"conn_uri": uri} for name in ("hr", "warehouse")}
    return Launches(World(*[uri] * 5, tmp_path), *daemon, connections)


def runs(world: World) -> list[tuple[Any, ...]]:
    return world.rows("SELECT run_id, status, attempts FROM ops.runs ORDER BY started_at")


def published(world: World) -> list[tuple[Any, ...]]:
    return world.rows("SELECT DISTINCT \"table\" FROM ops.tables WHERE status = 'published'")


def test_a_run_publishes_its_tables_with_a_line_for_each_step_and_sums_up(
    launches: Launches,
) -> None:
    launches.deliver("name: public.a\n    columns: {hash: [name]}", "public.b")
    done = launches.run(full_refresh="true")
    assert done.code == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.summary == {
        "pipeline": "hr",
        "run_id": "scheduled__1",
        "status": "success",
        "rows": {"raw_hr.a": 7, "raw_hr.b": 2},
        "failed": {},
        "assets": {
            name: {"rows": rows, "run_id": "scheduled__1"}
            for name, rows in (("raw_hr.a", 7), ("raw_hr.b", 2), ("raw_hr", 9))
        },
    }
    said = [line.partition("] ")[2] for line in done.stderr.splitlines()]
    for verb in ("staged", "audited", "published"):
        for table, rows in (("raw_hr.a", 7), ("raw_hr.b", 2)):
            (line,) = [each for each in said if each.startswith(f"{verb} {table}: ")]
            assert f"{rows} rows" in line
            assert line.endswith(" s")
    assert "\x1b" not in done.stderr
    assert runs(launches.world) == [("scheduled__1", "success", 1)]


def test_some_tables_and_an_interval_are_asked_for_by_meta(launches: Launches) -> None:
    launches.deliver("name: public.a\n    load: incremental\n    cursor: id", "public.b")
    assert launches.run(tables="a, public.b").code == 0
    with psycopg.connect(launches.world.warehouse_admin) as warehouse:
        warehouse.execute("DELETE FROM raw_hr.a WHERE id IN (2, 5)")
    done = launches.run(run_id="backfill__1", interval_start="1", interval_end="4")
    assert list(done.summary["rows"]) == ["raw_hr.a"]
    assert launches.world.rows("SELECT count(*) FROM raw_hr.a") == [(6,)], "only 2 came again"
    done = launches.run(run_id="manual__2", tables="b", commit="", log_url="")
    assert done.summary["rows"] == {"raw_hr.b": 2}
    wrong = launches.run(run_id="manual__3", tables="c")
    assert (wrong.code, "expected one of public.a, public.b, found c" in wrong.stderr) == (2, True)


def test_an_end_alone_means_the_schedules_tick_before_it(launches: Launches) -> None:
    launches.world.at_source(
        "CREATE TABLE visits (id int PRIMARY KEY, at timestamptz NOT NULL)",
        "INSERT INTO visits SELECT n, '2026-03-01 00:00+00'::timestamptz + n * interval '6 hours'"
        " FROM generate_series(0, 19) n",
    )
    launches.deliver("name: public.visits\n    load: incremental\n    cursor: at")
    assert launches.run().code == 0
    with psycopg.connect(launches.world.warehouse_admin) as warehouse:
        warehouse.execute("DELETE FROM raw_hr.visits")
    # The schedule is 02:00, so this reads from 2 March 02:00 to 3 March 02:00.
    done = launches.run(run_id="backfill__1", interval_end="2026-03-03T02:00:00+00:00")
    assert done.code == 0, done.stderr
    found = launches.world.rows("SELECT min(id), max(id), count(*) FROM raw_hr.visits")
    assert found == [(5, 8, 4)]


def test_a_commit_that_was_live_before_is_taken_when_it_is_named(launches: Launches) -> None:
    first = launches.deliver("public.a")
    launches.deliver("public.b")
    assert launches.run(commit=first).summary["rows"] == {"raw_hr.a": 7}
    assert launches.run(run_id="manual__2").summary["rows"] == {"raw_hr.b": 2}


MISUSED = {
    "no name": ({"pipeline": ""}, "NOMAD_META_PIPELINE is not set"),
    "a path": ({"pipeline": "../hr"}, "NOMAD_META_PIPELINE is wrong"),
    "a long run id": ({"run_id": "x" * 251}, "NOMAD_META_RUN_ID is wrong"),
    "a run id of two lines": ({"run_id": "a\nb"}, "NOMAD_META_RUN_ID is wrong"),
    "half an interval": ({"interval_start": "1"}, "interval_start needs interval_end"),
    "an end that is no time": ({"interval_end": "9"}, "expected a date and time where it is alone"),
    "no commit": ({"commit": "live"}, "NOMAD_META_COMMIT is wrong"),
    "a log elsewhere": ({"log_url": "file:///etc/passwd"}, "NOMAD_META_LOG_URL is wrong"),
    "an empty table": ({"tables": "a,,b"}, "NOMAD_META_TABLES is wrong"),
    "an unknown pipeline": ({"pipeline": "staff"}, "expected pipelines/staff.yaml in commit "),
    "an unknown commit": ({"commit": "0" * 39 + "1"}, "expected one that the mirror has"),
}


@pytest.mark.parametrize(("meta", "said"), MISUSED.values(), ids=MISUSED.keys())
def test_what_cannot_be_asked_for_is_one_clear_error(
    at_no_server: Launches, meta: dict[str, str], said: str
) -> None:
    at_no_server.deliver("public.a")
    done = at_no_server.run(**meta)
    assert done.code == ExitCode.WRONG_USE
    assert said in done.stderr
    assert done.stderr.count("HINT: ") == 1


def test_a_pipeline_of_another_source_is_refused_by_name(at_no_server: Launches) -> None:
    at_no_server.deliver_text(
        at_no_server.world.file("public.a").read_text().replace("source: hr", "source: records")
    )
    done = at_no_server.run()
    assert done.code == ExitCode.WRONG_USE
    assert "expected the source hr, which this job may read, found records" in done.stderr
    assert "ingest-records" in done.stderr
    assert done.summary["status"] == "failed"


def test_a_connection_that_the_job_has_not_is_refused_by_name(at_no_server: Launches) -> None:
    at_no_server.deliver("public.a", head="warehouse: other\n")
    done = at_no_server.run()
    assert done.code == ExitCode.WRONG_USE
    assert (
        "connection other: expected one of those that this job has (hr, warehouse)" in done.stderr
    )


def test_a_broken_file_is_told_by_its_lines_and_lasts(at_no_server: Launches) -> None:
    at_no_server.deliver_text("source: hr\n")
    done = at_no_server.run()
    assert done.code == ExitCode.FAILED
    assert "pipelines/hr.yaml:1: tables: expected this key, found none" in done.stderr
    assert str(at_no_server.world.folder) not in done.stderr


def test_a_table_that_fails_its_checks_lasts_and_the_others_are_published(
    launches: Launches,
) -> None:
    check = '{sql: {grown: "select max(id) from {table}"}}'
    launches.deliver("public.b", f"name: public.a\n    checks: {check}", head="alert: hook\n")
    with http_server() as hook:
        launches.connections["hook"] = {"conn_uri": f"{hook.url}/?token=s3cret-s3cret"}
        done = launches.run(log_url=LOG_URL, tries_left="2")
        (told,) = hook.posts
    assert done.code == ExitCode.FAILED
    assert done.summary["rows"] == {"raw_hr.b": 2}
    reason = "table raw_hr.a: expected its checks to pass, found sql.grown not"
    assert done.summary["failed"] == {"raw_hr.a": reason}, "no value of a row is in it"
    assert (told["status"], told["table"], told["log_url"]) == ("failed", "raw_hr.a", LOG_URL)


def test_keys_that_do_not_tell_rows_apart_are_summed_up_without_them(launches: Launches) -> None:
    launches.deliver("name: public.a\n    key: [name]")
    launches.world.at_source("UPDATE a SET name = 'Ada Lovelace'")
    done = launches.run()
    assert done.code == ExitCode.FAILED
    (reason,) = done.summary["failed"].values()
    assert "found keys that come more than once" in reason
    assert "Ada" not in done.stdout


def test_a_cursor_that_went_back_is_summed_up_without_its_values(launches: Launches) -> None:
    launches.deliver("name: public.b\n    load: append\n    cursor: id\n    key: [id]")
    assert launches.run().code == 0
    launches.world.at_source("TRUNCATE b", "INSERT INTO b VALUES (-1951)")
    done = launches.run(run_id="scheduled__2")
    assert done.code == ExitCode.FAILED
    assert "its cursor to go on from the last load" in done.summary["failed"]["raw_hr.b"]
    assert "-1951" in done.stderr
    assert "-1951" not in done.stdout


def test_a_server_that_is_away_passes_and_is_told_when_no_try_is_left(launches: Launches) -> None:
    launches.deliver("public.a", head="alert: hook\n")
    nowhere = f"postgresql://u:s3cret-s3cret@127.0.0.1:{free_port()}/hr"
    away = launches.connections | {"warehouse": {"conn_uri": nowhere}}
    with http_server() as hook:
        back = launches.connections | {"hook": {"conn_uri": f"{hook.url}/"}}
        launches.connections = away | {"hook": back["hook"]}
        first = launches.run(tries_left="1")
        assert not hook.posts
        last = launches.run(tries_left="0")
        assert [each["status"] for each in hook.posts] == ["failed"]
    for done in (first, last):
        assert done.code == ExitCode.PASSES
        assert "nothing that listens there" in done.summary["error"]


def test_a_mirror_that_is_away_passes(at_no_server: Launches) -> None:
    at_no_server.url = f"git://127.0.0.1:{free_port()}"
    done = at_no_server.run()
    assert done.code == ExitCode.PASSES
    assert "Connection refused" in done.stderr


def test_a_further_try_of_a_run_leaves_what_the_first_one_published(launches: Launches) -> None:
    world = launches.world
    launches.deliver("public.a", "public.b", head="alert: hook\nlimits: {lock_wait: 1s}\n")
    with http_server() as hook:
        launches.connections["hook"] = {"conn_uri": f"{hook.url}/"}
        with psycopg.connect(world.source_admin) as holder:
            holder.execute("LOCK TABLE a")
            first = launches.run(tries_left="1")
        assert first.code == ExitCode.PASSES
        assert (first.summary["rows"], list(first.summary["failed"])) == (
            {"raw_hr.b": 2},
            ["raw_hr.a"],
        )
        before = world.rows("SELECT 'raw_hr.b'::regclass::oid::int, load_id FROM ops.state")
        world.at_source("INSERT INTO b VALUES (3)")
        second = launches.run(tries_left="0")
        assert second.code == 0, second.stderr
        assert second.summary["rows"] == {"raw_hr.a": 7, "raw_hr.b": 2}
        state = "SELECT 'raw_hr.b'::regclass::oid::int, load_id FROM ops.state"
        assert world.rows(f"{state} WHERE \"table\" = 'raw_hr.b'") == before
        assert runs(world) == [("scheduled__1", "success", 2)]
        again = launches.run()
        assert again.summary["rows"] == {"raw_hr.a": 7, "raw_hr.b": 3}, "it had ended well"
        assert not hook.posts, "no try failed that was the last"


def test_sigterm_stops_the_run_and_its_next_try_ends_it(launches: Launches) -> None:
    world = launches.world
    world.at_source("CREATE VIEW crawl AS SELECT id, pg_sleep(20)::text AS nap FROM a")
    launches.deliver("public.crawl")
    process = launches.start()
    for _ in range(300):
        if world.rows("SELECT FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT %crawl%'"):
            break
        time.sleep(0.1)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    stdout, _ = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert process.returncode == ExitCode.TERMINATED
    assert json.loads(stdout)["status"] == "stopped"
    settle(world)
    assert published(world) == []
    world.at_source("CREATE OR REPLACE VIEW crawl AS SELECT id, ''::text AS nap FROM a")
    assert launches.run().code == 0
    assert runs(world) == [("scheduled__1", "success", 2)]


def test_a_run_whose_time_is_over_ends_is_written_down_and_told(launches: Launches) -> None:
    world = launches.world
    world.at_source("CREATE VIEW crawl AS SELECT id, pg_sleep(20)::text AS nap FROM a")
    launches.deliver("public.crawl", head="alert: hook\n")
    launches.timeout = "2s"
    with http_server() as hook:
        launches.connections["hook"] = {"conn_uri": f"{hook.url}/"}
        done = launches.run(tries_left="3")
        (told,) = hook.posts
    assert done.code == ExitCode.FAILED
    said = "pipeline hr: expected a run of 0:00:02 at most, found it still going"
    assert done.summary["error"] == said
    assert said in told["reason"]
    assert runs(world) == [("scheduled__1", "failed", 1)]
    settle(world)


def test_a_try_after_a_kill_leaves_what_was_published_before_it(launches: Launches) -> None:
    world = launches.world
    launches.deliver("public.a", "public.b")
    assert launches.run(run_id="scheduled__0").code == 0
    state = "SELECT load_id FROM ops.state WHERE \"table\" = 'raw_hr.a'"
    with psycopg.connect(world.warehouse_admin) as reader:
        reader.execute("SELECT count(*) FROM raw_hr.b")
        process = launches.start()
        for _ in range(300):
            if world.rows("SELECT FROM ops.tables WHERE run_id = 'scheduled__1'"
                          " AND status = 'published'"):  # fmt: skip
                break
            time.sleep(0.1)
        environment = Path(f"/proc/{process.pid}/environ").read_text()
        assert not any(each["conn_uri"] in environment for each in launches.connections.values())
        process.kill()
        process.communicate(timeout=10)
    settle(world)
    before = world.rows(state)
    done = launches.run()
    assert done.code == 0, done.stderr
    assert "published by an earlier try: raw_hr.a" in done.stderr
    assert done.summary["rows"] == {"raw_hr.a": 7, "raw_hr.b": 2}
    assert world.rows(state) == before
    assert runs(world)[1:] == [("scheduled__1", "success", 2)]


def test_secrets_that_are_not_there_are_one_clear_error(launches: Launches) -> None:
    launches.deliver("public.a")
    launches.connections["hr"] = {"conn_type": "mysql", "password": "s3cret-s3cret"}
    done = launches.run()
    assert done.code == ExitCode.WRONG_USE
    assert "expected a PostgreSQL connection, found another kind" in done.stderr
    assert "s3cret" not in done.stderr


def run_by_nomad(job: dict[str, Any], launches: Launches) -> dict[str, Any]:
    """Return the job as it is rendered, but for a driver and secrets that need no Docker or Vault.

    Its template has the same text with what Vault would answer in it.
    """
    (task,) = job["TaskGroups"][0]["Tasks"]
    (template,) = task["Templates"]
    text = template["EmbeddedTmpl"]
    for path in re.findall(r'secret "([^"]+)"', text):
        name = re.sub("/hr$", "", path.removeprefix("secret/data/local/connections/ingest/"))
        answer = json.dumps(launches.connections[name or "hr"])
        text = re.sub(
            rf'{{{{ with secret "{path}" }}}}.*?{{{{ end }}}}', lambda _, a=answer: a, text
        )
    template |= {"EmbeddedTmpl": text, "Uid": os.getuid(), "Gid": os.getgid()}
    config = {"command": sys.executable, "args": ["-m", "ingest", *task["Config"]["args"]]}
    task |= {"Driver": "raw_exec", "Config": config, "User": "", "Vault": None, "Identities": None}
    task["Env"] |= {
        "HARMATTAN_MIRROR": launches.url,
        "HARMATTAN_CONNECTIONS": "${NOMAD_SECRETS_DIR}/connections.json",
    }
    return job


def ended(nomad: Nomad, child: str) -> dict[str, Any]:
    for _ in range(300):
        for allocation in nomad.job.get_allocations(child):
            if allocation["ClientStatus"] in {"complete", "failed"}:
                return allocation  # type: ignore[no-any-return]
        time.sleep(0.1)
    pytest.fail(f"{child} did not end: {nomad.job.get_evaluations(child)}")


def test_nomad_runs_what_is_dispatched_in_the_namespace_of_runs(
    launches: Launches, tmp_path: Path
) -> None:
    launches.deliver("name: public.a\n    columns: {hash: [name]}", "public.b")
    launches.connections["hash_key/hr"] = launches.connections["hash_key"]
    with running_nodes(tmp_path, {"node": None}) as (default, nodes):
        default.namespace.create_namespace({"Name": Namespaces.runs})
        nomad = connect(default.address, None, namespace=Namespaces.runs)
        job = run_by_nomad(copy.deepcopy(rendered("ingest-hr")), launches)
        nomad.job.register_job("ingest-hr", {"Job": job})
        assert health(nomad, "ingest-hr").well
        assert health(default, "ingest-hr").state == "absent"
        with pytest.raises(NomadError, match="Dispatch request included unpermitted metadata"):
            nomad.job.dispatch_job("ingest-hr", meta={"pipeline": "hr", "run_id": "1", "x": "1"})

        def secrets_of(allocation: dict[str, Any]) -> list[str]:
            folder = nodes["node"].data / "alloc" / allocation["ID"] / "ingest/secrets"
            return [each.name for each in folder.iterdir()]

        def launch(**meta: str) -> tuple[dict[str, Any], str]:
            given = {"pipeline": "hr", "run_id": "scheduled__1", **meta}
            child = nomad.job.dispatch_job("ingest-hr", meta=given)["DispatchedJobID"]
            allocation = ended(nomad, child)
            assert "connections.json" not in secrets_of(allocation)
            log = nomad.client.stream_logs.stream(allocation["ID"], "ingest", "stdout", plain=True)
            return allocation["TaskStates"]["ingest"]["Events"], log

        events, log = launch(log_url=LOG_URL, tables="")
        assert [each["ExitCode"] for each in events if each["Type"] == "Terminated"] == [0], log
        assert json.loads(log)["rows"] == {"raw_hr.a": 7, "raw_hr.b": 2}
        launches.world.at_source("DROP TABLE b")
        launches.world.at_source("CREATE TABLE c ()")
        events, log = launch(run_id="manual__2", tables="public.c")
        assert [each["ExitCode"] for each in events if each["Type"] == "Terminated"] == [2]
        assert "Restarting" not in {each["Type"] for each in events}


def loaded(name: str) -> Loaded:
    return Loaded(name, name, "full", "first load", 3, 9, 3, 0, 0, 3, 0.1)


def test_a_summary_of_very_many_tables_has_counts() -> None:
    report = Report("hr", "1", loaded=[loaded(f"raw_hr.table_{place}") for place in range(100)])
    assert len(json.loads(summary(report, "success", None, "raw_hr"))["rows"]) == 100
    report.loaded += [loaded(f"raw_hr.long_name_of_a_table_{place}") for place in range(900)]
    report.failed["raw_hr.b"] = CheckFailedError("x" * 9000, "Mend it.")
    text = summary(report, "failed", Failure("some", "Mend them."), "raw_hr")
    assert len(text) <= MOST_BYTES
    said = json.loads(text)
    assert (said["rows"], said["failed"], "assets" in said) == ({}, {}, False)
    assert said["counts"] == {"tables": 1000, "rows": 3000, "failed": 1}

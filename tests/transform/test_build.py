"""dbt as a child: what it is given, what it leaves, and its end when it hangs."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import psycopg
import pytest
from psycopg import sql

from ingest import connections
from scripts.repository import ROOT
from tests.tls import PEERS, secure_postgres
from tests.transform.conftest import make_small
from transform.build import APPLICATION, Database, build, clear, document
from transform.errors import BuildError
from transform.results import marts, may_pass

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import PostgresServer
    from tests.tls import Authority, Peer
    from tests.transform.conftest import Small

pytestmark = pytest.mark.programs


@dataclass(frozen=True)
class Built:
    """A project after one build, with what dbt said and left; a build takes seconds to start."""

    small: Small
    lines: list[str]
    manifest: dict[str, Any]
    results: dict[str, Any]


def built(small: Small) -> Built:
    lines: list[str] = []
    return Built(small, lines, *build(small.project, small.database, say=lines.append))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Built]:
    """Everything passes, for a login whose password is in no way simple."""
    small = make_small(tmp_path_factory.mktemp("sound"), postgres.create_database())
    password = f"{secrets.token_hex(8)}:b\\c {{{{ x }}}}'\"$"
    with psycopg.connect(small.uri, autocommit=True) as connection:
        name = f"models_{connection.info.dbname}"
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE marts_builder").format(
                sql.Identifier(name), sql.Literal(password)
            )
        )
        try:
            small.database = Database(
                {**small.database.parameters, "user": name, "password": password}
            )
            yield built(small)
        finally:
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def unsound(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Built:
    """A test fails, and two models, of which dbt can compile only one."""
    small = make_small(tmp_path_factory.mktemp("unsound"), postgres.create_database())
    small.execute("INSERT INTO source VALUES (5)")
    small.write("models/alone.sql", "select '{{ target.host }}' as n, no_such_column")
    small.write("models/odd.sql", "select {{ no_such_macro() }}")
    return built(small)


def test_it_builds_beside_what_readers_see_and_says_so_line_by_line(sound: Built) -> None:
    small = sound.small
    assert [(mart.name, mart.faults) for mart in marts(sound.manifest, sound.results)] == [
        ("alone", ()), ("classes", ()), ("pupils", ()),
    ]  # fmt: skip
    assert small.query("SELECT * FROM marts_build.classes ORDER BY 1") == [
        ("class 0", 2), ("class 1", 3),
    ]  # fmt: skip
    assert small.query("SELECT FROM pg_tables WHERE schemaname = 'marts'") == []
    assert any("OK created sql table model marts_build.classes" in line for line in sound.lines)
    assert (small.project.artefacts / "compiled/small/models/classes.sql").exists()
    assert not (small.project.folder / "target").exists(), "the project is only read"


def test_what_fails_is_named_with_all_that_hangs_on_it(unsound: Built) -> None:
    alone, classes, odd, pupils = marts(unsound.manifest, unsound.results)
    assert [(fault.of, fault.status) for fault in pupils.faults] == [("unique_pupils_n", "fail")]
    assert [(fault.of, fault.status) for fault in classes.faults] == [("classes", "skipped")]
    assert alone.faults[0].status == "error"
    assert "no_such_column" in alone.faults[0].message
    assert odd.faults[0].status == "error"
    assert "no_such_macro" in odd.faults[0].message
    assert may_pass(unsound.results)


def test_no_project_reaches_what_people_see(small: Small) -> None:
    small.write(
        "models/alone.sql",
        "{{ config(post_hook='create table marts.leak as select 1') }} select 1 as n",
    )
    small.write("models/pupils.sql", "{{ config(schema='marts') }} select 1 as n, 'a' as class")
    (small.project.folder / "macros").mkdir()
    small.write(
        "macros/names.sql",
        "{% macro generate_schema_name(name, node) %}{{ name or target.schema }}{% endmacro %}",
    )
    manifest, results = build(small.project, small.database)
    alone, _, pupils = marts(manifest, results)
    assert "permission denied for schema marts" in alone.faults[0].message
    assert "permission denied for schema marts" in pupils.faults[0].message
    assert small.query("SELECT FROM pg_tables WHERE schemaname = 'marts'") == []


def test_what_a_killed_run_left_is_ended_and_gone_before_the_next(small: Small) -> None:
    small.write("models/alone.sql", "select 1 as n from pg_sleep(300)")
    program = (
        "import sys; from pathlib import Path; from psycopg.conninfo import conninfo_to_dict;"
        "from transform.build import Database, Project, build;"
        "folder, dbt, artefacts = map(Path, sys.argv[2:]);"
        "build(Project(folder, dbt, artefacts), Database(conninfo_to_dict(sys.argv[1])))"
    )
    project = small.project
    words = [small.uri, project.folder, project.dbt, project.artefacts]
    child = subprocess.Popen([sys.executable, "-c", program, *map(str, words)], cwd=ROOT)
    at_work = (
        "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%'"
        f" AND application_name = '{APPLICATION}' AND datname = current_database()"
    )
    try:
        until = time.monotonic() + 60
        while not small.query(at_work):
            assert time.monotonic() < until
            time.sleep(0.2)
    finally:
        child.kill()
        child.wait()
    small.execute("CREATE VIEW marts_build.left_over AS SELECT 1 AS n")
    with psycopg.connect(small.uri, autocommit=True) as connection:
        clear(connection)
    assert small.query(at_work) == []
    assert (
        small.query("SELECT FROM pg_class WHERE relnamespace = 'marts_build'::regnamespace") == []
    )
    running = [each for each in psutil.process_iter(["cmdline"]) if _is_dbt(each, project.folder)]
    assert running == [], "dbt ends with whoever started it"


def _is_dbt(process: psutil.Process, folder: Path) -> bool:
    return str(folder) in (process.info["cmdline"] or []) and process.status() != "zombie"


def test_a_project_that_dbt_cannot_read_is_one_error_and_its_log_says_which(small: Small) -> None:
    lines: list[str] = []
    small.write("models/marts.yml", "models: [")
    with pytest.raises(BuildError, match=r"small: expected manifest\.json, found none"):
        build(small.project, small.database, say=lines.append)
    assert any("marts.yml" in line for line in lines)


def test_a_model_that_hangs_is_ended_with_its_limit(small: Small) -> None:
    small.write("models/alone.sql", "select 1 as n from pg_sleep(300)")
    started = time.monotonic()
    with pytest.raises(BuildError, match="expected it to end within 6 s"):
        build(small.project, small.database, limit=6)
    assert time.monotonic() - started < 60


def test_a_password_of_any_form_reaches_libpq_and_no_environment(sound: Built) -> None:
    password = sound.small.database.parameters["password"]
    assert password not in str(sound.small.database.environment("marts_build"))
    assert {each["status"] for each in sound.results["results"]} == {"success", "pass"}


@pytest.fixture(scope="module")
def secure(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    with secure_postgres(tmp_path_factory.mktemp("tls"), authority) as server:
        yield server


def test_dbt_verifies_the_server_by_the_same_authorities(
    peer: Peer, secure: PostgresServer, tmp_path: Path
) -> None:
    small = make_small(tmp_path, secure.create_database())
    uri = f"{small.uri.replace('127.0.0.1', peer.host)}?sslmode=verify-full"
    entry = connections.Entry("warehouse", "postgresql", uri)
    small.database = Database(connections.postgres(entry).parameters)
    lines: list[str] = []
    words = ["debug", "--connection"]  # as a build connects, without reading the models
    code = small.project.run(words, small.database, "marts_build", say=lines.append)
    said = {
        PEERS["trusted"]: "OK connection ok",
        PEERS["untrusted"]: "certificate verify failed",
        PEERS["another name"]: 'does not match host name "localhost"',
    }[peer]
    assert said in "\n".join(lines)
    assert code == (1 if peer.fault else 0)


@pytest.mark.parametrize("project", ["sound", "unsound"])
def test_no_password_is_in_anything_that_it_says_or_writes(
    request: pytest.FixtureRequest, project: str
) -> None:
    found: Built = request.getfixturevalue(project)
    secret = str(found.small.database.parameters["password"])
    assert secret not in "\n".join(found.lines) + repr(found.small.database)
    for file in found.small.project.artefacts.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_its_page_is_one_file_and_shows_what_readers_have(sound: Built) -> None:
    page = document(sound.small.project, sound.small.database).read_text()
    assert "One row a class." in page
    assert '"marts"' in page
    assert "marts_build" not in page

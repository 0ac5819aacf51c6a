"""The template's pages, step by step as they stand there, in a repository that begins with them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
import yaml

from frame import switches
from ingest import contract
from scripts.repository import ROOT
from standins.school.load import load
from tests.pages import desk, steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer
    from tests.pages import Desk

pytestmark = pytest.mark.programs

TEMPLATE = ROOT / "airflow/analysts-template"
LIBRARY = """
    CREATE TABLE loans (loan_number integer PRIMARY KEY, member_number text NOT NULL, note text,
                        state text NOT NULL, lent_on date NOT NULL,
                        updated_at timestamptz NOT NULL);
    INSERT INTO loans SELECT n, 'M' || n % 7, 'a note of somebody', 'back', '2026-01-05', now()
    FROM generate_series(1, 2000) AS n;
    CREATE TABLE books (id integer PRIMARY KEY, title text NOT NULL);
    INSERT INTO books VALUES (1, 'Sundiata');
"""
# Each begins where the one before ended.
PAGES = ("README.md", "docs/add-a-source.md", "docs/add-a-check.md", "docs/add-a-model.md",
         "docs/set-a-schedule.md", "docs/add-a-container.md", "docs/try-it-first.md",
         "docs/switch-off.md", "docs/add-an-api.md")  # fmt: skip


@dataclass
class Analyst:
    """Somebody at a desk, their repository, and the databases that they may use."""

    desk: Desk
    repository: Path
    remote: Path
    server: PostgresServer
    hr: str
    library: str
    warehouse: str

    def follow(self, page: str, /, *, but: str = "", **values: str) -> str:
        return self.desk.follow(TEMPLATE / page, values, self.repository, but=but)

    def fails(self, text: str) -> str:
        shown = self.desk.type(f"if {text}; then false; fi")
        return shown

    def pushed(self, file: str, branch: str = "main") -> str:
        words = ["git", f"--git-dir={self.remote}", "show", f"{branch}:{file}"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout

    def rows(self, query: str, database: str = "") -> list[tuple[object, ...]]:
        with psycopg.connect(database or self.warehouse) as connection:
            return connection.execute(query.encode()).fetchall()


@pytest.fixture(scope="module")
def analyst(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Analyst]:
    home = tmp_path_factory.mktemp("analyst")
    (home / "harmattan").symlink_to(ROOT)
    (home / "bin").mkdir()
    (home / "bin/uv").symlink_to(Path(sys.executable).with_name("uv"))
    subprocess.run(["git", "init", "--quiet", "--bare", home / "remote.git"], check=True)
    hr, library, warehouse = (postgres.create_database() for _ in range(3))
    with psycopg.connect(hr) as connection:
        load(connection, "hr", 0.02, 7)
    with psycopg.connect(library) as connection:
        connection.execute(LIBRARY)
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "An analyst"), ("EMAIL", "analyst@localhost"))
    }
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AIRFLOW", "HARMATTAN", "VIRTUAL_ENV"))
    } | {
        "PATH": f"{home / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        # A server of one's own, which root cannot have, is tested beside ingest.desk.
        "AIRFLOW_CONN_WAREHOUSE": warehouse,
        "COLUMNS": "120",
        **who,
    }
    with desk(home, home, environment) as shell:
        repository = home / "analysts"
        yield Analyst(shell, repository, home / "remote.git", postgres, hr, library, warehouse)


@pytest.fixture(scope="module")
def started(analyst: Analyst) -> str:
    """What is shown to somebody who follows the first page."""
    values = {
        "postgresql://user:password@localhost:5432/hr": analyst.hr,
        "ssh://git@example.org/analysts.git": str(analyst.remote),
    }
    return analyst.follow("README.md", **values)


def test_half_an_hour_ends_with_a_push_of_what_is_sound(analyst: Analyst, started: str) -> None:
    assert "set up: dag-sync" in started
    assert "sound: " in started
    assert "raw_hr.employees: 20 rows" in started
    assert "monthly_salary" in started
    pushed = subprocess.run(
        ["git", f"--git-dir={analyst.remote}", "ls-tree", "-r", "--name-only", "main"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert {"Makefile", "setup.sh", ".gitlab-ci.yml", "pipelines/hr.yaml"} <= set(pushed)
    assert not [name for name in pushed if name.startswith((".venv", ".try", "target", "logs"))]


@pytest.mark.usefixtures("started")
def test_set_up_again_finds_nothing_new_and_editors_have_the_schema(analyst: Analyst) -> None:
    assert "nothing new: dag-sync" in analyst.desk.type("make setup HARMATTAN=../harmattan")
    settings = json.loads((analyst.repository / ".vscode/settings.json").read_text())
    ((schema, files),) = settings["yaml.schemas"].items()
    assert json.loads((analyst.repository / schema).read_text()) == contract.json_schema()
    named = {file.read_text().splitlines()[0] for file in analyst.repository.glob(files)}
    assert f"# yaml-language-server: $schema=../{schema}" in named


@pytest.mark.usefixtures("started")
def test_the_pages_are_followed_one_after_another(analyst: Analyst) -> None:
    uri = "postgresql://user:password@localhost:5432/library"
    # What a page wrote stays, so the last one's check is of all pages; it takes ten seconds.
    shown = analyst.follow("docs/add-a-source.md", but="make check", **{uri: analyst.library})
    assert "raw_library.loans: 1,000 rows" in shown
    assert "text, hashed" in shown
    assert "left out" in shown
    assert "a note of somebody" not in shown
    assert analyst.rows("SELECT count(*) FROM loans", analyst.library) == [(2000,)]

    shown = analyst.follow("docs/add-a-check.md", but="make check")
    assert "not asked of a sample: freshness, rows, sql none_from_tomorrow" in shown

    server = analyst.server
    values = {
        "postgresql://me:secret@localhost:5432/warehouse": analyst.warehouse,
        "MODELS_HOST=localhost": "MODELS_HOST=127.0.0.1",
        "MODELS_PORT=5432": f"MODELS_PORT={server.port}",
        "MODELS_USER=me": f"MODELS_USER={server.superuser}",
        "MODELS_DATABASE=warehouse": f"MODELS_DATABASE={analyst.warehouse.rpartition('/')[2]}",
        "PASSWORD=secret": f"PASSWORD={server.password}",
    }
    shown = analyst.follow("docs/add-a-model.md", but="make check", **values)
    assert "ERROR=0" in shown
    built = analyst.rows("SELECT grade, employees FROM marts_build.staff_by_grade ORDER BY 1")
    assert built
    assert built == analyst.rows(
        "SELECT trim(name), count(*) FROM employees JOIN grades ON grades.id = grade_id"
        " WHERE left_on IS NULL GROUP BY 1 HAVING count(*) >= 5 ORDER BY 1",
        analyst.hr,
    )

    analyst.follow("docs/set-a-schedule.md", but="make check")
    assert "sound: " in analyst.follow("docs/add-a-container.md")

    shown = analyst.follow("docs/try-it-first.md")
    assert "sound: " in shown
    assert " pipelines/library.yaml | 1 +" in shown, "it was on the branch alone"
    assert "load: incremental" in analyst.pushed("pipelines/library.yaml")
    assert analyst.pushed("pipelines/library.yaml", "staging") == analyst.pushed(
        "pipelines/library.yaml"
    )

    assert "sound: " in analyst.follow("docs/switch-off.md")
    switched = switches.read(analyst.pushed("environments.toml").encode())
    assert switches.is_off("ingest_library", "staging", switched)
    assert not switches.is_off("ingest_library", "production", switched)
    assert not switches.is_off("ingest_hr", "staging", switched)

    shown = analyst.follow("docs/add-an-api.md")
    first, second = "{'attendance': 2, 'term_dates': 6}\n", "{'term_dates': 6}\n"
    assert first + second in shown, "the sheet is read once"
    assert "attendance/2026-10-01.xlsx │ 2026-10-01 │ 1B" in shown


@pytest.mark.usefixtures("started")
def test_what_is_wrong_is_said_with_its_line_and_a_way_out(analyst: Analyst) -> None:
    file = analyst.repository / "pipelines/hr.yaml"
    sound = file.read_text()
    file.write_text(sound.replace("owner: people-analytics", "owners: people-analytics"))
    try:
        said = analyst.fails("make check")
    finally:
        file.write_text(sound)
    assert "pipelines/hr.yaml:6: pipeline: owners: expected one of the keys" in said
    assert "HINT: Mend the line" in said
    assert "refused: " in said
    assert "HINT: Name a file of pipelines/" in analyst.fails("make try")


def test_nothing_is_done_before_it_is_set_up(tmp_path: Path) -> None:
    shutil.copytree(TEMPLATE, tmp_path / "new")
    environ = {"PATH": "/usr/bin:/bin"}

    def make(*words: str) -> str:
        done = subprocess.run(
            ["make", *words], cwd=tmp_path / "new", env=environ, capture_output=True, text=True,
            check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2, done.stdout
        return done.stderr

    assert "HINT: Run this first: make setup" in make("check")
    assert "HINT: Name its folder, a git address or a wheel" in make("setup")
    assert "error: there is no ./harmattan" in make("setup", "HARMATTAN=harmattan")
    assert not (tmp_path / "new/.venv").exists()


def test_a_desk_has_the_duckdb_that_loads_are_tested_with() -> None:
    (named,) = re.findall(r"duckdb==[\d.]+", (TEMPLATE / "docs/add-an-api.md").read_text())
    assert f"\n{named} " in (ROOT / "requirements/dev.txt").read_text()


def test_each_page_of_a_task_is_followed_and_linked() -> None:
    readme = (TEMPLATE / "README.md").read_text()
    for page in TEMPLATE.glob("docs/*.md"):
        assert f"](docs/{page.name})" in readme
        commands = [step for step in steps(page) if step.language == "sh"]
        assert (str(page.relative_to(TEMPLATE)) in PAGES) == bool(commands), page


def test_ci_runs_what_a_person_runs() -> None:
    github = yaml.safe_load((TEMPLATE / ".github/workflows/check.yml").read_text())["jobs"]["check"]
    gitlab = yaml.safe_load((TEMPLATE / ".gitlab-ci.yml").read_text())["check"]
    assert {"run": "make setup check"} in github["steps"]
    assert gitlab["script"] == ["make setup check"]
    assert gitlab["timeout"] == f"{github['timeout-minutes']} minutes"
    (python,) = [step["with"]["python-version"] for step in github["steps"]
                 if step.get("uses", "").startswith("actions/setup-python@")]  # fmt: skip
    assert gitlab["image"].startswith(f"python:{python}-")

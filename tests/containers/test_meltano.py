"""The container meltano's project, run by the real Meltano: two taps into one PostgreSQL."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from scripts import environments
from scripts.repository import ROOT
from tests.http_server import Answer, HttpServer, Request, http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

PROJECT = ROOT / "containers" / "meltano"
DESK = """
    CREATE TABLE assets (id int PRIMARY KEY, kind text NOT NULL);
    INSERT INTO assets VALUES (1, 'Laptop'), (2, 'Projector');
    CREATE TABLE tickets (id int PRIMARY KEY, subject text, updated_at timestamptz NOT NULL);
    INSERT INTO tickets
    SELECT n, 'Ticket ' || n, '2026-10-01 08:00Z'::timestamptz + n * interval '1 min'
    FROM generate_series(1, 5) n;
"""


@dataclass
class Holidays:
    """The API of holidays: two a page, for who has the token, and trouble first if there is any."""

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    known: list[dict[str, Any]] = field(default_factory=list)
    trouble: list[Answer] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        if self.trouble:
            return self.trouble.pop(0)
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return Answer(401, {"error": "no such token"})
        asked = {name: value for name, (value,) in parse_qs(urlsplit(request.path).query).items()}
        page, since = int(asked.get("page", 1)), asked.get("updated_since", "")
        new = [each for each in self.known if each["updated_at"] >= since[:19]]
        more = f"/holidays?page={page + 1}&updated_since={since[:19]}"
        return Answer(
            200,
            {
                "holidays": new[2 * page - 2 : 2 * page],
                "next": more if len(new) > 2 * page else None,
            },
        )

    def add(self, number: int, day: int) -> None:
        self.known.append(
            {
                "id": number, "name": f"Holiday {number}", "begins": "2026-12-20",
                "ends": "2027-01-06", "updated_at": f"2026-10-{day:02}T08:00:00Z",
            }
        )  # fmt: skip


@dataclass
class World:
    """Source, warehouse and API, and the installed project as its image has it."""

    project: Path
    python: Path
    place: Path
    source: str
    warehouse: str
    holidays: Holidays
    api: HttpServer

    def run(self, environment: str, job: str, **secret: str) -> subprocess.CompletedProcess[str]:
        """Run a job as the container does, with its secrets in a file."""
        alchemy = {
            name: uri.replace("postgresql:", "postgresql+psycopg2:")
            for name, uri in (("source", self.source), ("warehouse", self.warehouse))
        }
        given = {
            "TAP_POSTGRES_SQLALCHEMY_URL": self.source,
            "TARGET_POSTGRES_SQLALCHEMY_URL": self.warehouse,
            "MELTANO_DATABASE_URI": alchemy["warehouse"].replace("psycopg2", "psycopg"),
            "TAP_HOLIDAYS_API_URL": self.api.url,
            "TAP_HOLIDAYS_API_TOKEN": self.holidays.token,
            **secret,
        }
        file = self.place / "variables.json"
        file.write_text(json.dumps(given))
        return subprocess.run(
            [self.python, self.project / "start.py", f"--environment={environment}", "run", job],
            cwd=self.place, capture_output=True, text=True, timeout=180, check=False,
            env={
                "PATH": os.environ["PATH"], "HOME": str(self.place), "LANG": "C.UTF-8",
                "CONTAINER_SECRETS": str(file),
            },
        )  # fmt: skip

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.warehouse) as connection:
            return connection.execute(query.encode()).fetchall()

    def at_source(self, statement: str) -> None:
        with psycopg.connect(self.source) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[World]:
    """Install Meltano and the project's plugins, as the image's Dockerfile does."""
    home = tmp_path_factory.mktemp("meltano")
    project, venv = home / "project", environments.ensure("meltano")
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("Dockerfile", ".meltano"))
    done = subprocess.run(
        [venv / "bin/meltano", "install"], cwd=project, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    holidays = Holidays()
    place = home / "work"
    place.mkdir()
    with http_server(holidays) as api:
        source = postgres.create_database()
        found = World(
            project, venv / "bin/python", place, source, postgres.create_database(), holidays, api
        )
        found.at_source(DESK)
        yield found


def test_tables_come_whole_and_by_what_is_new_and_where_it_stood_is_kept(world: World) -> None:
    done = world.run("dev", "desk")
    assert done.returncode == 0, done.stdout + done.stderr
    assert world.rows("SELECT count(*) FROM meltano_dev.tickets") == [(5,)]
    assert world.rows("SELECT to_regnamespace('meltano')") == [(None,)], "dev is not what runs"
    assert world.run("prod", "desk").returncode == 0
    world.at_source(
        "UPDATE tickets SET subject = 'unseen' WHERE id = 1;"  # behind the replication key
        "INSERT INTO tickets VALUES (6, 'Ticket 6', '2026-10-02');"
        "UPDATE assets SET kind = 'Beamer' WHERE id = 2"
    )
    first = world.rows("SELECT max(_sdc_extracted_at) FROM meltano.tickets")[0][0]
    again = world.run("prod", "desk")
    assert again.returncode == 0
    assert not (world.place / "variables.json").exists(), "what was read is gone"
    tickets = dict(world.rows("SELECT id, subject FROM meltano.tickets"))
    assert (len(tickets), tickets[1], tickets[6]) == (6, "Ticket 1", "Ticket 6")
    assert world.rows("SELECT kind FROM meltano.assets ORDER BY id") == [("Laptop",), ("Beamer",)]
    newer = "SELECT id FROM meltano.tickets WHERE _sdc_extracted_at > %s ORDER BY 1"
    with psycopg.connect(world.warehouse) as connection:
        # The row at which the last run stopped comes again.
        assert connection.execute(newer.encode(), [first]).fetchall() == [(5,), (6,)]
    kept = dict(world.rows("SELECT state_id, completed_state::text FROM public.state"))
    assert set(kept) == {f"{each}:tap-postgres-to-target-postgres" for each in ("dev", "prod")}
    assert "2026-10-02" in kept["prod:tap-postgres-to-target-postgres"]
    secret = urlsplit(world.source).password or ""
    assert secret and secret not in again.stdout + again.stderr + str(kept)


def test_a_tap_of_ones_own_reads_an_api_through_its_troubles_and_then_what_is_new(
    world: World,
) -> None:
    for number in range(1, 6):
        world.holidays.add(number, number)
    world.holidays.trouble = [Answer(500), Answer(429)]
    done = world.run("prod", "holidays")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(world.api.requests) == 2 + 3, "two in trouble, three pages"
    assert world.rows("SELECT count(*) FROM meltano.holidays") == [(5,)]
    world.holidays.add(6, 20)
    world.api.requests.clear()
    assert world.run("prod", "holidays").returncode == 0
    assert [request.path for request in world.api.requests] == [
        "/holidays?updated_since=2026-10-05T08%3A00%3A00%2B00%3A00"
    ]
    assert world.rows("SELECT id FROM meltano.holidays ORDER BY 1 DESC LIMIT 1") == [(6,)]
    refused = world.run("prod", "holidays", TAP_HOLIDAYS_API_TOKEN=(wrong := secrets.token_hex(16)))
    assert refused.returncode == 75, "another try is asked for"
    assert "401" in refused.stdout + refused.stderr
    for token in (wrong, world.holidays.token):
        assert token not in done.stdout + done.stderr + refused.stdout + refused.stderr


def test_secrets_that_are_none_are_an_error_without_them(world: World) -> None:
    file = world.place / "broken.json"
    file.write_text('["s3cr3t"]')
    done = subprocess.run(
        [world.python, world.project / "start.py", "--version"], cwd=world.place,
        env={"CONTAINER_SECRETS": str(file)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "expected a JSON object of variables" in done.stderr
    assert "s3cr3t" not in done.stderr


def test_a_job_or_an_environment_that_the_project_has_not_asks_for_no_other_try(
    world: World,
) -> None:
    for environment, job, wrong in (("prod", "dsek", "dsek"), ("staging", "desk", "staging")):
        done = world.run(environment, job)
        assert done.returncode == 2
        assert f"{wrong!r}: expected one of the project's" in done.stderr
        assert "HINT: Correct what the file in containers/ says" in done.stderr

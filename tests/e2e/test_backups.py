"""Backups of the real databases: made by the job, restored by hand, proved by the drill."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from playwright.sync_api import expect
from psycopg import sql

from backup.bucket.catalogue import open_catalogue
from backup.bucket.layout import daily_folder
from backup.bucket.store import open_store
from backup.registry import load_registry
from backup.scratch.directory import PREFIX
from backup.settings import B2_KEY, DRILL_KEY, REGISTRY, SIGNERS
from frame.failure import Failure
from scripts import launches
from scripts.launches import finish, force
from scripts.local import backblaze, credentials, databases, first_run
from scripts.local.home import VOLUMES, kept
from scripts.proofs import newest_report
from scripts.repository import ROOT
from tests.browser import SCREENSHOTS, launched
from tests.e2e.contents import contents
from tests.e2e.rounds import logs, wait_until
from tests.pages import block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access


def backups(platform: Access, database: str) -> list[str]:
    """Return the ids of the complete backups of ``database``, oldest first."""
    with open_catalogue(platform.backups) as catalogue:
        return [each.id for each in catalogue.backups(database)]


def objects(platform: Access, database: str) -> set[str]:
    """Return the names of all that is in the bucket of ``database``."""
    settings = platform.backups
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        return {each.name for each in store.list(daily_folder(settings.prefix, database))}


@pytest.fixture
def fresh_database() -> Iterator[str]:
    """An empty database on the local server, gone afterwards."""
    name = f"restored_{secrets.token_hex(4)}"
    identifier = sql.Identifier(name)
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(identifier))
        try:
            yield name
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder whose path is short enough for the sockets of gpg's agent."""
    with tempfile.TemporaryDirectory(prefix="restore-", dir="/tmp") as folder:
        yield Path(folder)


def test_the_newest_backup_restores_to_what_the_source_holds(
    platform: Access, fresh_database: str, home: Path
) -> None:
    before = backups(platform, "hr")
    finish(platform, force(platform, "backup-hr"), timeout=120)
    after = backups(platform, "hr")
    assert len(after) == len(before) + 1

    (home / "secrets").mkdir(mode=0o700)
    (home / "secrets" / B2_KEY).write_text(json.dumps(kept(backblaze.key_file("drill"))))
    (home / "secrets" / DRILL_KEY).write_text(kept("gpg-drill")["private"])
    signers = {"hr": kept("gpg-signing-hr")["public"]}
    (home / "secrets" / SIGNERS).write_text(json.dumps(signers))
    settings = {name: value for name, value in platform.values.items() if "BACKUP" in name}
    done = subprocess.run(
        [sys.executable, "-m", "backup", "restore", "hr", "--into-env", "TARGET"],
        cwd=ROOT,
        env={
            **os.environ,
            **settings,
            "BACKUP_SECRETS_DIR": str(home / "secrets"),
            "BACKUP_SCRATCH": str(home),
            "TARGET": databases.superuser(fresh_database),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"restored {after[-1]} of hr into {fresh_database}" in done.stdout
    there = contents("hr", "public")
    assert sum(rows for rows, _ in there.values()) > 1000
    assert contents(fresh_database, "public") == there
    # No plaintext stays on the disk, and no password was shown.
    assert sorted(path.name for path in home.iterdir()) == ["secrets"]
    assert kept("postgres") not in done.stdout + done.stderr


def hold_drill(*words: str) -> Any:
    """Hold a drill by the operators' command and return its report."""
    done = subprocess.run(
        [sys.executable, "scripts/restore_drill.py", "--json", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_drill_that_is_killed_leaves_no_plaintext(platform: Access) -> None:
    child = launches.dispatch(platform, "restore-drill-now", {})
    data = VOLUMES / "scratch-server"

    def at_work() -> list[str]:
        left = [path.name for path in (VOLUMES / "backup-scratch").iterdir()]
        return [*(name for name in left if name.startswith(PREFIX)), *os.listdir(data)]

    wait_until(lambda: os.listdir(data), "a server's data", 120)
    (allocation,) = (each["ID"] for each in platform.nomad.job.get_allocations(child))
    subprocess.run(["docker", "kill", f"drill-{allocation}"], check=True, capture_output=True)
    with pytest.raises(Failure, match="failed"):
        finish(platform, child, timeout=120)
    # Nomad calls it failed while the sweeps are still to come.
    wait_until(lambda: not at_work(), "the sweeps", 60)


def test_one_database_of_a_date_is_drilled_on_demand(platform: Access) -> None:
    newest = backups(platform, "hr")[-1]
    moment = datetime.strptime(newest.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    report = hold_drill("hr", "--at", moment.isoformat())
    found = [(each["database"], each["verdict"], each["backup_id"]) for each in report["databases"]]
    assert found == [("hr", "equal", newest)]
    assert datetime.fromisoformat(report["at"]) == moment


def test_the_drill_proves_every_database(platform: Access) -> None:
    started = datetime.now(UTC)
    told = hold_drill()
    report = newest_report(platform)
    assert report is not None
    assert told == report.model_dump(mode="json")
    assert report.started >= started
    entries = load_registry(REGISTRY).entries
    assert {each.database: each.verdict for each in report.databases} == dict.fromkeys(
        [entry.name for entry in entries], "equal"
    )
    rows = {each.database: each.rows_compared for each in report.databases}
    assert all(rows[database] > 0 for database in databases.DATABASES)


def test_a_report_says_the_version_that_git_gave_the_image(platform: Access) -> None:
    report = newest_report(platform)
    assert report is not None
    assert re.fullmatch(r"\d[\w.]*(\+[\w.]+)?", report.program_version)


def test_the_page_of_the_drill_is_read_in_a_browser(platform: Access, home: Path) -> None:
    settings = platform.backups
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        pages = [
            stored
            for stored in store.list(f"{settings.prefix}/drills")
            if stored.name.endswith(".html")
        ]
        newest = max(pages, key=lambda stored: stored.name)
        (home / "report.html").write_bytes(store.get(newest.name, newest.file_id))
    with launched() as browser:
        screen = browser.new_page(viewport={"width": 1280, "height": 900})
        screen.goto(f"file://{home}/report.html")
        expect(screen.locator(".verdict")).to_contain_text("came back whole, sound and within")
        for entry in load_registry(REGISTRY).entries:
            cell = screen.get_by_role("cell", name=entry.name, exact=True)
            expect(cell).to_be_visible()
        screen.screenshot(path=SCREENSHOTS / "drill-platform.png", full_page=True)


def test_the_coverage_finds_a_database_that_nobody_registered(platform: Access) -> None:
    name = f"payroll_{secrets.token_hex(4)}"
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            child = force(platform, "backup-coverage")
            with pytest.raises(Failure, match="failed"):
                finish(platform, child, timeout=120)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    (allocation,) = (each["ID"] for each in platform.nomad.job.get_allocations(child))
    (line,) = [
        line
        for line in logs(platform, allocation, "coverage", "stdout").splitlines()
        if name in line
    ]
    assert "uncovered" in line
    finish(platform, force(platform, "backup-coverage"), timeout=120)


def runbook(home: Path, name: str, target: str) -> str:
    """Return the runbook's own commands that restore ``name`` on one machine, as one script."""
    secrets_block = block("Restore a database", 0)
    program, choose = block("Restore a database", 2), block("Restore a database", 4)
    begin, local = secrets_block.split("\n\n")[:2]
    restore = choose.split("\n\n")[1]
    script = "\n".join(
        ["set -eu", 'export PATH="$PWD/.tools:$PATH"', begin, local, program, restore]
    )
    return (
        re.sub(r"TARGET=\S+", f"TARGET={databases.superuser(target)}", script)
        .replace("/srv/restore", str(home / "restore"))
        .replace("backup restore hr ", f"backup restore {name} ")
    )


def test_a_database_that_was_deleted_comes_back_by_the_runbooks_commands(
    platform: Access, home: Path
) -> None:
    name = "service_desk"
    finish(platform, force(platform, f"backup-{name}"), timeout=120)
    before = contents(name, "public")
    assert sum(rows for rows, _ in before.values()) > 1000
    with psycopg.connect(databases.superuser("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE service_desk WITH (FORCE)")
    done = subprocess.run(
        ["bash"], input=runbook(home, name, name), cwd=ROOT, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(name, "public") == before
    # Owner and rights came back with it: its jobs log in as before.
    finish(platform, force(platform, f"backup-{name}"), timeout=120)
    first_run.run(platform, [f"ingest_{name}"])


@pytest.fixture
def denied_writer(platform: Access) -> Iterator[None]:
    """Give the backup jobs a B2 key that may list and not write; then their own, and it is well."""
    bucket = backblaze.bucket()
    key = bucket.api.create_key(
        ["listBuckets", "listFiles"],
        "harmattan-denied",
        bucket_ids=[bucket.id_],
        name_prefix="local/",
    )
    path = "backup/b2/writer"
    credentials.write({path: {"key_id": key.id_, "key": key.application_key}})
    try:
        yield
    finally:
        credentials.write({path: credentials.platform()[path]})
        bucket.api.delete_key_by_id(key.id_)
    finish(platform, force(platform, "backup-hr"), timeout=120)


def first_end(platform: Access, child: str) -> tuple[str, int]:
    """Wait until the backup task ended once; return its allocation and exit code."""

    def over() -> tuple[str, int] | None:
        for allocation in platform.nomad.job.get_allocations(child):
            state: dict[str, Any] = (allocation["TaskStates"] or {}).get("backup") or {}
            for event in state.get("Events") or []:
                if event["Type"] == "Terminated":
                    return allocation["ID"], int(event["Details"]["exit_code"])
        return None

    allocation, code = wait_until(over, f"the end of {child}", 120)
    return allocation, code


@pytest.mark.usefixtures("denied_writer")
def test_a_backup_that_b2_denies_fails_with_one_clear_error(platform: Access) -> None:
    before = backups(platform, "hr"), objects(platform, "hr")
    child = force(platform, "backup-hr")
    try:
        allocation, code = first_end(platform, child)
    finally:
        # It would be tried again in five minutes, with a key that may write.
        platform.nomad.job.deregister_job(child)
    assert code == 1
    said = logs(platform, allocation, "backup", "stderr") + logs(
        platform, allocation, "backup", "stdout"
    )
    errors = [line for line in said.splitlines() if "error" in line.lower()]
    assert len(errors) == 1, said
    assert "unauthorized" in errors[0]
    assert "HINT: Look at the B2 key's rights" in said
    assert "Traceback" not in said
    assert (backups(platform, "hr"), objects(platform, "hr")) == before

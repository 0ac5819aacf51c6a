"""The command, against a real Superset: what comes from files, and what people made by hand."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from dashboards.__main__ import CONFLICT, app
from dashboards.layout import DATABASE_UUID
from tests.conftest import free_port
from tests.dashboards import examples
from tests.dashboards.examples import Repository

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dashboards.service import Service

pytestmark = pytest.mark.programs


def dashboard(superset: Service) -> dict[str, Any]:
    answer = superset.login("operator").call("GET", "/api/v1/dashboard/enrolment")
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]  # type: ignore[no-any-return]


def rename(superset: Service, title: str) -> None:
    """Change the dashboard by hand, as somebody does in the browser."""
    path = f"/api/v1/dashboard/{dashboard(superset)['id']}"
    done = superset.login("operator").call("PUT", path, json={"dashboard_title": title})
    assert done.status_code == 200, done.text


def test_dashboards_go_in_once_and_stay_as_people_made_them(
    superset: Service, tmp_path: Path
) -> None:
    """One story: each step starts from what the one before left."""
    repository = Repository()
    root = repository.write(tmp_path / "repository")

    done = superset.run("import", root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": created") == 4, done.stdout
    assert sorted(dashboard(superset)["charts"]) == ["Students", "Students by year"]

    # Again: nothing is written.
    before = superset.query("SELECT uuid, changed_on FROM slices ORDER BY uuid")
    done = superset.run("import", root)
    assert (done.returncode, done.stdout.count(": unchanged")) == (0, 4), done.stdout
    assert superset.query("SELECT uuid, changed_on FROM slices ORDER BY uuid") == before

    # The files change: so does Superset.
    repository.contents[examples.DASHBOARD_FILE]["dashboard_title"] = "Enrolment now"
    repository.write(root)
    done = superset.run("import", root)
    assert "dashboard 'Enrolment now': updated" in done.stdout, done.stderr
    assert dashboard(superset)["dashboard_title"] == "Enrolment now"

    # Somebody changes it by hand, and the files change as well: theirs stays.
    rename(superset, "By hand")
    repository.contents[examples.DASHBOARD_FILE]["dashboard_title"] = "By files"
    repository.write(root)
    done = superset.run("import", root)
    assert done.returncode == CONFLICT
    assert "changed in Superset by hand and in the files, and left" in done.stderr
    assert dashboard(superset)["dashboard_title"] == "By hand"

    # What was made by hand, in files: the same goes in again without a word.
    out = tmp_path / "exported"
    out.mkdir()
    done = superset.run("export", "By hand", "--to", out)
    assert done.returncode == 0, done.stderr
    exported = {path.name: path.read_text() for path in out.rglob("*.yaml")}
    assert set(exported) == {
        "metadata.yaml", "By_hand.yaml", "Students.yaml", "Students_by_year.yaml", "enrolment.yaml",
    }  # fmt: skip
    (out / "models").mkdir()
    (out / examples.MODELS).parent.mkdir(parents=True, exist_ok=True)
    (out / examples.MODELS).write_text(repository.texts()[examples.MODELS])
    done = superset.run("import", out)
    assert done.returncode == 0, done.stderr
    assert "created" not in done.stdout
    assert "updated" not in done.stdout
    superset.run("export", "--to", tmp_path)
    again = {path.name: path.read_text() for path in (tmp_path / "dashboards").rglob("*.yaml")}
    assert again == exported

    # Asked for by name, the files win.
    done = superset.run("import", root, "--overwrite", "By files")
    assert done.returncode == 0, done.stderr
    assert dashboard(superset)["dashboard_title"] == "By files"


def test_a_dashboard_of_somebodys_own_is_not_touched(superset: Service, tmp_path: Path) -> None:
    analyst = superset.login("analyst")
    mine = {"dashboard_title": "My own", "slug": "mine"}
    made = analyst.call("POST", "/api/v1/dashboard/", json=mine)
    assert made.status_code == 201, made.text
    before = superset.query("SELECT * FROM dashboards WHERE dashboard_title = 'My own'")
    repository = Repository()
    repository.contents[examples.DASHBOARD_FILE] |= {"slug": "mine", "uuid": examples.OTHER}
    done = superset.run("import", repository.write(tmp_path))
    assert done.returncode == 1
    assert "somebody made a dashboard of mine by hand" in done.stderr
    assert superset.query("SELECT * FROM dashboards WHERE dashboard_title = 'My own'") == before


def test_a_file_that_superset_does_not_take_is_named_and_changes_nothing(
    superset: Service, tmp_path: Path
) -> None:
    repository = Repository()
    repository.contents[examples.BARS_FILE] |= {"certified_by": {"a": "name"}}
    repository.contents[examples.TOTAL_FILE]["description"] = "Something else."
    before = superset.query("SELECT slice_name, description FROM slices ORDER BY 1")
    done = superset.run("import", repository.write(tmp_path))
    assert done.returncode == 1
    assert f"Superset does not take {examples.BARS_FILE}: " in done.stderr
    assert "Export it from Superset again" in done.stderr
    assert superset.query("SELECT slice_name, description FROM slices ORDER BY 1") == before


def test_files_that_do_not_fit_change_nothing(superset: Service, tmp_path: Path) -> None:
    repository = Repository()
    repository.contents[examples.DATASET_FILE]["data"] = "http://127.0.0.1:9/rows.csv"
    before = superset.query("SELECT name, value FROM harmattan_record ORDER BY name")
    done = superset.run("import", repository.write(tmp_path))
    assert done.returncode == 1
    assert "it has data" in done.stderr
    assert superset.query("SELECT name, value FROM harmattan_record ORDER BY name") == before


def test_the_live_commit_is_delivered_once(superset: Service, tmp_path: Path) -> None:
    def git(*words: str | Path) -> str:
        return subprocess.check_output(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], text=True
        ).strip()

    mirror = tmp_path / "mirror"
    git("init", "--quiet", "--bare", mirror / "analysts.git")
    work = Repository().write(tmp_path / "work")
    git("init", "--quiet", work)
    git("-C", work, "add", ".")
    git("-C", work, "commit", "--quiet", "--message", "Dashboards")
    git("-C", work, "push", "--quiet", mirror / "analysts.git", "HEAD:refs/heads/live")
    port = free_port()
    daemon = subprocess.Popen(
        ["git", "daemon", "--export-all", "--reuseaddr", f"--base-path={mirror}",
         "--listen=127.0.0.1", f"--port={port}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"git://127.0.0.1:{port}"
        names = ("Enrolment", "Students", "Students by year", "enrolment")
        overwrite = [word for name in names for word in ("--overwrite", name)]
        first = superset.run("deliver", *overwrite, DASHBOARDS_MIRROR=url)
        second = superset.run("deliver", DASHBOARDS_MIRROR=url)
    finally:
        daemon.terminate()
        daemon.wait(10)
    commit = git("-C", work, "rev-parse", "HEAD")
    assert first.returncode == 0, first.stderr
    assert f"{commit[:12]}: 4 datasets" in first.stdout
    assert second.returncode == 0, second.stderr
    assert second.stdout.strip() == f"{commit[:12]} is delivered already"


def test_no_secret_stands_in_what_is_said_kept_or_exported(
    superset: Service, tmp_path: Path
) -> None:
    superset.run("export", "--to", tmp_path)
    said = superset.run("import", tmp_path / "nothing")
    texts = [path.read_text() for path in tmp_path.rglob("*.yaml")]
    kept = [str(row) for row in superset.query("SELECT sqlalchemy_uri, password, extra FROM dbs")]
    page = superset.login("operator").call("GET", "/dashboard/list/").text
    api = superset.login("operator").call("GET", "/api/v1/database/").text
    for secret in (superset.password, superset.key, superset.warehouse):
        for text in (superset.log(), said.stderr, said.stdout, *texts, *kept, page, api):
            assert secret not in text


def test_a_database_that_lets_nobody_in_is_said_without_its_password(
    superset: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: before Superset is loaded, and without the patience of a service."""
    monkeypatch.setattr("dashboards.__main__.PATIENCE", 0.5)
    wrong = tmp_path / "uri"
    wrong.write_text(re.sub(r"/\w+$", "/nowhere", (superset.home / "web").read_text().strip()))
    environment = superset.environment(DASHBOARDS_METADATA_URI_FILE=str(wrong))
    root = str(Repository().write(tmp_path / "r"))
    done = CliRunner().invoke(app, ["import", root], env=environment)
    assert done.exit_code == 1
    assert "Superset's database: expected a connection, found a database that" in done.stderr
    assert superset.password not in done.stdout + done.stderr


def test_the_only_database_is_the_warehouse_without_a_password(superset: Service) -> None:
    rows = superset.query("SELECT uuid::text, database_name, sqlalchemy_uri, password FROM dbs")
    ((uuid, name, uri, password),) = rows
    assert (uuid, name, password) == (DATABASE_UUID, "School", None)
    assert superset.warehouse not in uri


def test_check_says_all_that_is_wrong(superset: Service, tmp_path: Path) -> None:
    repository = Repository()
    repository.contents[examples.BARS_FILE]["params"]["groupby"] = ["month"]
    repository.contents[examples.TOTAL_FILE]["description"] = ""
    done = superset.run("check", repository.write(tmp_path))
    assert done.returncode == 1
    assert "has no column 'month'" in done.stderr
    assert "it has no description" in done.stderr
    assert yaml.safe_load(repository.texts()[examples.BARS_FILE])["params"]["groupby"] == ["month"]

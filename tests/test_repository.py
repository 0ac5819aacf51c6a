"""The files around the code: what they call and name is there."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.licences.dependencies import IMAGES
from scripts.repository import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
FORMS = sorted(ROOT.glob(".github/ISSUE_TEMPLATE/*.yml"))


@cache
def tracked() -> tuple[str, ...]:
    """Return the files of the repository, from its root."""
    answer = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    names = [name for name in answer.stdout.split("\0") if name]
    return tuple(name for name in names if (ROOT / name).exists())


def parsed(name: str) -> dict[str, Any]:
    """Return what a YAML file says."""
    text: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return text


# -- Continuous integration


def github_job() -> dict[str, Any]:
    job: dict[str, Any] = parsed(".github/workflows/ci.yml")["jobs"]["ci"]
    return job


def test_both_pipelines_run_what_a_person_runs() -> None:
    assert {"run": ".ci/run"} in github_job()["steps"]
    assert parsed(".gitlab-ci.yml")["ci"]["script"] == [".ci/run"]


def test_both_pipelines_have_the_same_machine_and_time() -> None:
    github, gitlab = github_job(), parsed(".gitlab-ci.yml")["ci"]
    assert github["container"]["image"] == gitlab["image"]
    assert gitlab["timeout"] == f"{github['timeout-minutes']} minutes"


def test_the_machine_has_the_go_that_the_toolchain_asks_for() -> None:
    wanted = {
        re.findall(r"^go (\d+\.\d+)", path.read_text(), re.MULTILINE)[0]
        for path in ROOT.glob("scripts/toolchain/*/go.mod")
    }
    assert {github_job()["container"]["image"]} == {f"golang:{go}-bookworm" for go in wanted}


def test_the_workflow_may_only_read_and_pins_its_actions() -> None:
    assert parsed(".github/workflows/ci.yml")["permissions"] == {"contents": "read"}
    uses = [step["uses"] for step in github_job()["steps"] if "uses" in step]
    assert uses
    for action in uses:
        assert re.search(r"@(v\d+|[0-9a-f]{40})$", action), action


# -- Hooks, forms, updates


def test_each_hook_calls_a_program_that_setup_or_the_tests_install() -> None:
    packages = re.findall(r"^TEST_PACKAGES := (.+)$", MAKEFILE, re.MULTILINE)[0].split()
    (repository,) = parsed(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local", "a hook from elsewhere is fetched at the first commit"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        program = hook["entry"].split()[0]
        assert program in packages or (ROOT / program).exists(), program


@pytest.mark.parametrize(
    "form", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.name
)
def test_a_form_for_issues_has_what_the_site_asks_for(form: Path) -> None:
    text = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= text.keys()
    fields = [entry for entry in text["body"] if entry["type"] != "markdown"]
    identifiers = [entry["id"] for entry in fields]
    assert len(set(identifiers)) == len(identifiers)
    assert all(entry["attributes"]["label"] for entry in fields)


def test_gitlab_has_the_same_templates() -> None:
    names = {path.stem for path in FORMS} - {"config"}
    assert {path.stem for path in ROOT.glob(".gitlab/issue_templates/*.md")} == names
    merge_request = (ROOT / ".gitlab/merge_request_templates/Default.md").read_text()
    assert merge_request == (ROOT / ".github/pull_request_template.md").read_text()


RENOVATE: dict[str, Any] = json.loads((ROOT / "renovate.json").read_text())


@pytest.mark.parametrize(
    ("manager", "files"),
    [
        ("pep621", {"pyproject.toml"}),
        ("gomod", {f"scripts/toolchain/{tool}/go.mod" for tool in ("nomad", "vault")}),
        ("dockerfile", set(IMAGES.values())),
    ],
)
def test_updates_look_at_every_file_that_pins(manager: str, files: set[str]) -> None:
    assert manager in RENOVATE["enabledManagers"]
    patterns = [text.strip("/") for text in RENOVATE[manager]["managerFilePatterns"]]
    matched = {name for name in tracked() if any(re.search(text, name) for text in patterns)}
    assert matched == files


def test_updates_name_packages_and_commands_that_there_are() -> None:
    pinned = (ROOT / "pyproject.toml").read_text() + "".join(
        path.read_text() for path in ROOT.glob("scripts/toolchain/*/go.mod")
    )
    for rule in RENOVATE["packageRules"]:
        for package in rule.get("matchPackageNames", []):
            assert package in pinned
        for line in rule.get("postUpgradeTasks", {}).get("commands", []):
            make, target = line.split()
            assert (make, target in TARGETS) == ("make", True)


# -- Texts


def test_texts_are_as_the_editors_are_told() -> None:
    for name in tracked():
        if name.endswith(".png"):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "\r" not in text, name
        assert not text or text.endswith("\n"), f"{name} ends without a newline"
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name} has spaces at a line's end"
        if Path(name).suffix in {".py", ".hcl", ".yml", ".yaml", ".toml", ".json", ".sh"}:
            assert not re.search(r"^\t", text, re.MULTILINE), f"{name} is indented by tabs"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "README.md"])
def test_a_target_of_make_that_a_text_names_is_there(name: str) -> None:
    named = re.findall(r"`(?:\.venv/bin/)?make ([a-z]+)", (ROOT / name).read_text())
    # Built beside these texts.
    assert set(named) - TARGETS <= {"check"}


def test_links_between_texts_lead_somewhere() -> None:
    links = [
        (name, target)
        for name in tracked()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (ROOT / name).read_text())
        if "://" not in target
    ]
    assert links
    assert not [link for link in links if not ((ROOT / link[0]).parent / link[1]).exists()]


def test_the_map_in_the_readme_shows_what_is_there() -> None:
    block = (ROOT / "README.md").read_text().split("## The map of the house")[1].split("```")[1]
    shown = {line.split()[0].rstrip("/") for line in block.splitlines() if re.match(r"\S", line)}
    for name in shown:
        assert (ROOT / name).exists(), name
    folders = {name.split("/")[0] for name in tracked() if "/" in name}
    assert {name for name in folders if not name.startswith(".")} <= shown


# -- The licence and the changelog


def test_the_project_says_its_licence_once_and_holds_its_text() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text()
    assert text.split(maxsplit=3)[:3] == ["Apache", "License", "Version"]


def test_each_snippet_of_the_changelog_has_a_type_that_is_known() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]
    types = {entry["directory"] for entry in settings["type"]}
    for path in (ROOT / settings["directory"]).glob("*.md"):
        if path.name != "README.md":
            assert re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({'|'.join(types)})\.md", path.name), path
    assert settings["start_string"] in (ROOT / settings["filename"]).read_text()

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from scripts import environments
from scripts.licences import __main__ as licences
from scripts.licences.__main__ import RULES, TABLE, Rules, judge, table
from scripts.licences.dependencies import debian_packages, go_modules, python_packages
from scripts.repository import ROOT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

RULES_TEXT = """
open = ["MIT", "Apache-2.0", "LGPL-3.0-only"]
[names]
"MIT License" = "MIT"
"""


class Project:
    """A made-up project: a lock file a call, and a folder with what is installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.installed = root / "site-packages"
        for name in ("requirements", "scripts", "site-packages"):
            (root / name).mkdir()
        (root / "scripts/setup.sh").write_text("")
        self.rules("")

    def rules(self, text: str) -> None:
        (self.root / "licences.toml").write_text(RULES_TEXT + text)

    def package(self, name: str, *headers: str, version: str = "1.0") -> None:
        folder = self.installed / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers]
        (folder / "METADATA").write_text("\n".join(lines) + "\n")

    def lock(self, image: str, *pins: str) -> None:
        text = "".join(f"{pin} \\\n    --hash=sha256:00\n    # via x\n" for pin in pins)
        (self.root / f"requirements/{image}.txt").write_text(text)

    def check(self) -> str:
        """Return the page, or raise what the command would say."""
        rules = Rules.load(self.root / "licences.toml")
        packages = python_packages(self.root, [str(self.installed)])
        judge(packages, rules)
        return table(packages, rules)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        (["License-Expression: MIT"], "MIT"),
        (["License-Expression: MIT OR LicenseRef-Acme"], "MIT OR LicenseRef-Acme"),
        (["License-Expression: LGPL-3.0-only"], "LGPL-3.0-only"),
        (["License: MIT"], "MIT"),
        (["License: MIT License"], "MIT"),
        (["License: Apache-2.0", "Classifier: License :: OSI Approved :: BSD License"],
         "Apache-2.0"),
        (["License: the words of a licence " + "go on " * 20,
          "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
        (["License: UNKNOWN", "Classifier: License :: OSI Approved :: MIT License"], "MIT"),
    ],
)  # fmt: skip
def test_an_open_licence_stands_in_the_table(
    project: Project, headers: list[str], licence: str
) -> None:
    project.package("acme", *headers)
    project.lock("airflow", "acme==1.0")
    assert f"| acme | 1.0 | {licence} | airflow |\n" in project.check()


@pytest.mark.parametrize(
    "headers",
    [
        ["License-Expression: LicenseRef-Acme"],
        ["License-Expression: MIT AND BUSL-1.1"],
        ["License: Proprietary"],
        ["License: All rights reserved"],
        ["Classifier: License :: Other/Proprietary License"],
        # Two classifiers do not say whether one or both hold.
        ["Classifier: License :: OSI Approved :: MIT License",
         "Classifier: License :: Other/Proprietary License"],
    ],
)  # fmt: skip
def test_a_licence_that_is_not_open_is_refused_by_name(
    project: Project, headers: list[str]
) -> None:
    project.package("acme", *headers)
    project.lock("backup", "acme==1.0")
    with pytest.raises(Failure, match=r"acme 1\.0 \(backup\) is under '") as refused:
        project.check()
    assert "Take another package" in refused.value.hint


@pytest.mark.parametrize(
    "headers", [[], ["License: UNKNOWN"], ["License: a text without a name " + "and more " * 20]]
)
def test_a_package_that_states_no_licence_is_refused(project: Project, headers: list[str]) -> None:
    project.package("acme", *headers)
    project.lock("backup", "acme==1.0")
    with pytest.raises(Failure, match=r"acme 1\.0 \(backup\) states no licence"):
        project.check()


def test_all_refused_packages_are_named_at_once(project: Project) -> None:
    project.package("acme", "License: Proprietary")
    project.package("bolt")
    project.lock("backup", "acme==1.0", "bolt==1.0")
    with pytest.raises(Failure, match=r"(?s)acme 1\.0.*bolt 1\.0"):
        project.check()


READ = """
[[read]]
says = "BSD License"
is = "MIT"
packages = ["acme"]
"""


def test_a_licence_that_a_person_read_counts_while_the_package_says_the_same(
    project: Project,
) -> None:
    project.rules(READ)
    project.package("acme", "Classifier: License :: OSI Approved :: BSD License")
    project.lock("backup", "acme==1.0")
    assert "| acme | 1.0 | MIT | backup |" in project.check()

    project.package("acme", "License: Proprietary", version="2.0")
    project.lock("backup", "acme==2.0")
    with pytest.raises(Failure, match=r"acme 2\.0 \(backup\) is under 'Proprietary'"):
        project.check()


def test_a_judgement_that_nothing_needs_is_refused(project: Project) -> None:
    project.rules(READ)
    project.package("acme", "License-Expression: MIT")
    project.lock("backup", "acme==1.0")
    with pytest.raises(Failure, match=r"says it itself: acme\n"):
        project.check()


@pytest.mark.parametrize(("licence", "passes"), [("BUSL-1.1", True), ("SSPL-1.0", False)])
def test_an_exception_holds_for_one_licence_alone(
    project: Project, licence: str, *, passes: bool
) -> None:
    project.rules('[allowed]\nacme = "BUSL-1.1"\n')
    project.package("acme", f"License-Expression: {licence}")
    project.lock("backup", "acme==1.0")
    if passes:
        assert "BUSL-1.1" in project.check()
    else:
        with pytest.raises(Failure, match=r"SSPL-1\.0"):
            project.check()


def test_a_package_stands_with_its_images_and_with_dev_only_if_it_is_in_none(
    project: Project,
) -> None:
    for name in ("acme", "bolt"):
        project.package(name, "License-Expression: MIT")
    project.lock("airflow", "acme==1.0")
    project.lock("backup", "acme==1.0")
    project.lock("dev", "acme==1.0", "bolt==1.0")
    page = project.check()
    assert "| acme | 1.0 | MIT | airflow, backup |" in page
    assert "| bolt | 1.0 | MIT | dev |" in page


@pytest.mark.parametrize("installed", ["2.0", None])
def test_metadata_of_another_version_is_not_believed(
    project: Project, installed: str | None
) -> None:
    if installed:
        project.package("acme", "License-Expression: MIT", version=installed)
    project.lock("airflow", "acme==1.0")
    with pytest.raises(Failure, match=rf"acme 1\.0, but \.venv has {installed or 'none'}"):
        project.check()


def test_debian_packages_are_those_that_the_images_install() -> None:
    places = {package.name: package.places for package in debian_packages(ROOT)}
    assert places["redis-server"] == {"redis", "tests"}
    assert {"backup", "local"} <= places["postgresql-15"]
    assert {"airflow", "local"} <= places["tini"]
    assert "commands" in places["docker.io"]
    assert not [name for name in places if not name[0].isalpha() or "$" in name]


def test_go_modules_are_the_tools_and_what_stands_in_for_a_module() -> None:
    versions = {module.name: module.version for module in go_modules(ROOT)}
    assert versions["github.com/hashicorp/nomad"].startswith("v1.")
    assert versions["github.com/hashicorp/vault"].startswith("v1.")
    assert "github.com/Jeffail/keyring" in versions
    assert "github.com/99designs/keyring" not in versions


@pytest.mark.parametrize("kind", ["debian", "go"])
def test_what_no_rule_names_is_refused(kind: str) -> None:
    rules = Rules.load(RULES)
    rules.written[kind].clear()
    dependencies = debian_packages(ROOT) if kind == "debian" else go_modules(ROOT)
    with pytest.raises(Failure, match="states no licence"):
        judge(dependencies, rules)


@pytest.mark.programs
def test_the_page_is_true(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    for name in environments.BESIDE:  # it says so when it makes one
        environments.ensure(name)
    done = command("python", "-m", "scripts.licences", "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.programs
def test_a_page_that_is_out_of_date_is_refused_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "docs/licences.md"
    old.parent.mkdir()
    old.write_text(TABLE.read_text().replace("| alembic |", "| alembics |"))
    kept = old.read_text()
    monkeypatch.setattr(licences, "TABLE", old)
    with pytest.raises(Failure, match="is not what the lock files say"):
        licences.main(check=True)
    assert old.read_text() == kept

    licences.main(check=False)
    assert old.read_text() == TABLE.read_text()

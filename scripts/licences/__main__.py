"""Write docs/licences.md: what the project depends on, and under which licences."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frame.application import Application, exit_codes
from frame.failure import Failure
from scripts import environments
from scripts.licences.dependencies import Dependency, debian_packages, go_modules, python_packages
from scripts.licences.spdx import is_open
from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RULES = ROOT / "scripts/licences/licences.toml"
TABLE = ROOT / "docs/licences.md"
_KINDS = {"python": "Python packages", "debian": "Debian packages", "go": "Go modules"}
_INTRODUCTION = """\
# Licences of what Harmattan uses

`make licences` writes this page from the lock files, the Dockerfiles and the Go modules, and
`make lint` refuses a dependency that is not open source. Why it is so, and what Nomad's and Vault's
licences mean: [decision 0029](decisions/0029-licences.md).

A dependency stands with the images that hold it - airflow, backup, ingest, local, meltano, redis,
superset - or, if it is in no image, with what needs it: dev and tests (the development lock and
`make test`), dbt (the school's models, in an environment of their own), setup and commands
(`make`), nomad and vault (the tool that is built from it).
"""


@dataclass(frozen=True)
class Rules:
    """What ``licences.toml`` says: which licences are open, and what statements mean."""

    open: frozenset[str]
    allowed: dict[str, str]
    names: dict[str, str]
    read: dict[tuple[str, str], str]  # (package, what it says) -> what it is
    written: dict[str, dict[str, str]]  # kind -> name -> licence, where nothing can be asked
    path: Path = field(default=RULES, compare=False)

    @classmethod
    def load(cls, path: Path) -> Rules:
        """Read the rules from a TOML file."""
        text: dict[str, Any] = tomllib.loads(path.read_text())
        read = {
            (package, entry["says"]): entry["is"]
            for entry in text.get("read", [])
            for package in entry["packages"]
        }
        written = {kind: text.get(kind, {}) for kind in ("debian", "go")}
        return cls(
            frozenset(text["open"]), text.get("allowed", {}), text.get("names", {}), read, written,
            path,
        )  # fmt: skip

    def licence(self, dependency: Dependency) -> str:
        """Return the licence as an SPDX expression; what is stated, where that means none."""
        if dependency.kind in self.written:
            return self.written[dependency.kind].get(dependency.name, "")
        said = dependency.stated
        return self.read.get((dependency.name, said), self.names.get(said, said))

    def refusal(self, dependency: Dependency) -> str | None:
        """Return why ``dependency`` may not be used, ``None`` if it may."""
        licence = self.licence(dependency)
        if is_open(licence, self.open) or self.allowed.get(dependency.name) == licence:
            return None
        what = f"{dependency.name} {dependency.version} ({', '.join(sorted(dependency.places))})"
        if not licence:
            return f"{what} states no licence"
        return f"{what} is under {licence!r}, which is not known to be open source"

    def unused(self, dependencies: Iterable[Dependency]) -> list[str]:
        """Return the names that the rules judge although no dependency is called, or says, so."""
        known = list(dependencies)
        statements = {(dependency.name, dependency.stated) for dependency in known}
        names = {(dependency.kind, dependency.name) for dependency in known}
        judged = {(kind, name) for kind, entries in self.written.items() for name in entries}
        return sorted(
            {package for package, said in self.read if (package, said) not in statements}
            | {name for kind, name in judged if (kind, name) not in names}
            | {name for name in self.allowed if name not in {called for _, called in names}}
        )


def judge(dependencies: Iterable[Dependency], rules: Rules) -> None:
    """Raise :class:`Failure` that names every dependency that is not open source."""
    known = list(dependencies)
    if refused := [reason for entry in known if (reason := rules.refusal(entry))]:
        raise Failure(
            "not every dependency is open source:\n" + "\n".join(f"  - {line}" for line in refused),
            "Take another package. If its licence file is open source and the metadata does not "
            f"say so, write it into {rules.path.name}, whose comments say how.",
        )
    if unused := rules.unused(known):
        raise Failure(
            f"{rules.path.name} judges what is gone or says it itself: {', '.join(unused)}",
            "Remove these lines.",
        )


def table(dependencies: Iterable[Dependency], rules: Rules) -> str:
    """Return the page as Markdown, one table a kind, sorted by name."""
    known = sorted(dependencies, key=lambda entry: (entry.name.lower(), entry.version))
    parts = [_INTRODUCTION]
    for kind, title in _KINDS.items():
        parts += [f"\n## {title}\n\n| Name | Version | Licence | In |\n|---|---|---|---|\n"]
        parts += [
            f"| {entry.name} | {entry.version} | {rules.licence(entry)} "
            f"| {', '.join(sorted(entry.places))} |\n"
            for entry in known
            if entry.kind == kind
        ]
    return "".join(parts)


app = Application("scripts.licences")


@app.command(
    epilog=exit_codes({0: "all are open source", 1: "one is not, or the page is out of date"})
)
def main(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing, and fail if the page is out of date.")
    ] = False,
) -> None:
    """Write docs/licences.md, a table of every dependency.

    What is not open source is refused.
    """
    rules = Rules.load(RULES)
    beside = [environments.packages(name) for name in environments.BESIDE]
    dependencies = [
        *python_packages(ROOT, [*sys.path, *map(str, beside)]),
        *debian_packages(ROOT),
        *go_modules(ROOT),
    ]
    judge(dependencies, rules)
    page = table(dependencies, rules)
    if not check:
        TABLE.write_text(page)
    elif not TABLE.exists() or TABLE.read_text() != page:
        raise Failure(
            "docs/licences.md is not what the lock files say",
            "Run `make licences` and commit the page.",
        )


if __name__ == "__main__":
    app.run()

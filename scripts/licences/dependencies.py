"""What the project depends on, read from its files: Python and Debian packages, Go modules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.metadata import PackageMetadata
    from pathlib import Path

IMAGES = {
    "airflow": "airflow/Dockerfile",
    "backup": "backup/Dockerfile",
    "ingest": "ingest/Dockerfile",
    "meltano": "containers/meltano/Dockerfile",
    "local": "nomad/images/local/Dockerfile",
    "redis": "nomad/images/redis/Dockerfile",
    "superset": "dashboards/Dockerfile",
}
_LOCKED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
# uv installs the lock, and is therefore in none.
_UV = re.compile(r"'(uv)==([^']+)'")
_CLASSIFIER = "License :: "
_STATED = 60  # characters; a longer statement is the licence's text, not its name


@dataclass
class Dependency:
    """A package or module; ``stated`` is what it says of its licence, empty if nothing.

    ``places`` are the images and, for what is in none, the lock file or command that needs it.
    """

    kind: str  # python, debian or go
    name: str
    version: str
    stated: str = ""
    places: set[str] = field(default_factory=set)


def python_packages(root: Path, installed: Sequence[str]) -> list[Dependency]:
    """Return what the lock files of ``root`` name, with the licences that the packages state.

    ``installed`` are the folders that hold the packages, such as ``sys.path``. Raises
    :class:`Failure` if a package is not installed there in the locked version.
    """
    found: dict[tuple[str, str], Dependency] = {}
    sources = [(path.stem, path, _LOCKED) for path in sorted(root.glob("requirements/*.txt"))]
    sources.append(("setup", root / "scripts/setup.sh", _UV))
    for place, path, pattern in sources:
        for name, version in pattern.findall(path.read_text()):
            entry = found.setdefault((name, version), Dependency("python", name, version))
            entry.places.add(place)
    for entry in found.values():
        entry.stated = _stated(_metadata(entry.name, entry.version, installed))
        # The development lock holds what the images hold, too.
        entry.places = entry.places - {"dev"} or {"dev"}
    return list(found.values())


def _metadata(name: str, version: str, installed: Sequence[str]) -> PackageMetadata:
    versions = []
    for package in distributions(name=name, path=list(installed)):
        if package.version == version:
            return package.metadata
        versions.append(package.version)
    raise Failure(
        f"a lock file names {name} {version}, but .venv has {', '.join(versions) or 'none'}",
        "Run `make setup`; if two lock files differ in its version, run `make lock` first.",
    )


def _stated(metadata: PackageMetadata) -> str:
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    named = metadata["License"].strip() if "License" in metadata else ""
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or []
        if line.startswith(_CLASSIFIER)
    ]
    # An identifier says more than a classifier, which does not know one BSD licence from another.
    if re.fullmatch(r"[A-Za-z]+(-[A-Za-z0-9.]+)+|MIT|ISC|Unlicense", named) or not classifiers:
        return "" if named == "UNKNOWN" or len(named) > _STATED else named
    return ", ".join(classifiers)


def debian_packages(root: Path) -> list[Dependency]:
    """Return the Debian packages that images, tests and commands install by name."""
    found: dict[str, Dependency] = {}
    for place, name in (*_of_images(root), *_of_commands(root)):
        found.setdefault(name, Dependency("debian", name, "Debian's")).places.add(place)
    return list(found.values())


def _of_images(root: Path) -> Iterator[tuple[str, str]]:
    for image, path in IMAGES.items():
        text = (root / path).read_text().replace("\\\n", " ")
        for name, value in re.findall(r"^ARG (\w+)=(\S*)$", text, re.MULTILINE):
            text = text.replace(f"${{{name}}}", value)
        for name, front, value in re.findall(r"(\w+)=\$\(printf '(\S+)%s ' (\S+)\)", text):
            text = text.replace(f"${{{name}}}", front + value)
        for words in re.findall(r"apt-get install ([^&\n]+)", text):
            for word in words.replace('"', "").split():
                if not word.startswith("-"):
                    yield image, word


def _of_commands(root: Path) -> Iterator[tuple[str, str]]:
    makefile = (root / "Makefile").read_text()
    for line in re.findall(r"^TEST_PACKAGES := (.+)$", makefile, re.MULTILINE):
        yield from (("tests", name) for name in line.split())
    callers = [root / "Makefile", *root.glob("scripts/*.sh"), *root.glob("scripts/local/*.py")]
    for path in callers:
        text = path.read_text()
        for line in re.findall(r"scripts/packages\.sh ([a-z0-9 .-]+)$", text, re.MULTILINE):
            yield from (("commands", name) for name in line.split())
        for name in re.findall(r'install_packages\("([^"]+)"\)', text):
            yield "commands", name


def go_modules(root: Path) -> list[Dependency]:
    """Return the modules that the toolchain's ``go.mod`` files name as tools or in place of one."""
    found: dict[tuple[str, str], Dependency] = {}
    for path in sorted(root.glob("scripts/toolchain/*/go.mod")):
        text = path.read_text()
        replaced = dict(re.findall(r"^replace (?:\S+) => (\S+) (\S+)$", text, re.MULTILINE))
        tools = re.findall(r"^tool (\S+\.\S+)$", text, re.MULTILINE)
        for block in re.findall(r"^tool \(\n(.*?)^\)", text, re.MULTILINE | re.DOTALL):
            tools += block.split()
        required = dict(re.findall(r"^\s(\S+) (v\S+)", text, re.MULTILINE))
        for name, version in {**{tool: required[tool] for tool in tools}, **replaced}.items():
            entry = found.setdefault((name, version), Dependency("go", name, version))
            entry.places.add(path.parent.name)
    return list(found.values())

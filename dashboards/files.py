"""Reads dashboards from files, which strangers wrote, and writes them.

Nothing of a file is run: YAML is parsed by its safe loader, without aliases, within bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from dashboards import shapes
from dashboards.layout import KINDS, Asset
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "dashboards"
MODELS = "models/marts"
# A dashboard of Superset's is some 20 kB; what is far beyond was not made by a person.
MOST_BYTES = 1_000_000
MOST_FILES = 1_000
DATABASE_FOLDER = "databases"
METADATA = "metadata.yaml"
_VERSION = "1.0.0"


@dataclass(frozen=True)
class Tree:
    """The files of a repository that matter here: their text by their path from its root."""

    texts: dict[str, str]

    def below(self, folder: str) -> dict[str, str]:
        """Return the YAML files below ``folder``, by their path from there."""
        return {
            path.removeprefix(f"{folder}/"): text
            for path, text in sorted(self.texts.items())
            if path.startswith(f"{folder}/") and path.endswith((".yaml", ".yml"))
        }


@dataclass
class Files:
    """What the files below ``dashboards/`` say, and every fault found while reading them."""

    assets: list[Asset] = field(default_factory=list)
    databases: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_folder(root: Path) -> Tree:
    """Read a working copy of the analysts' repository. Raises :class:`WrongUse`.

    A link is not followed: what it names may be anything that this process can read.
    """
    if not root.is_dir():
        raise WrongUse(f"{root} is no folder", "Name a copy of the analysts' repository.")
    texts = {}
    for folder in (FOLDER, MODELS):
        for path in sorted((root / folder).rglob("*.y*ml")):
            name = str(path.relative_to(root))
            if path.is_symlink() or any(each.is_symlink() for each in path.parents):
                raise Failure(f"{name} is a link", "Put a file in its place.")
            texts[name] = decode(name, path.read_bytes())
    return Tree(bounded(texts))


def decode(name: str, content: bytes) -> str:
    """Return a file's text. Raises :class:`Failure` if it is too long, or is not UTF-8."""
    if len(content) > MOST_BYTES:
        raise Failure(
            f"{name} is longer than {MOST_BYTES} bytes", "Split the dashboard, or remove the file."
        )
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Failure(f"{name} is not UTF-8", "Export the dashboard again.") from None


def bounded(texts: dict[str, str]) -> dict[str, str]:
    """Return ``texts``. Raises :class:`Failure` if there are too many."""
    if len(texts) > MOST_FILES:
        raise Failure(
            f"there are more than {MOST_FILES} files of dashboards and models",
            "Remove what nobody looks at.",
        )
    return texts


class _Loader(yaml.SafeLoader):
    """YAML's safe loader without aliases, of which a few lines can make gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"line {event.start_mark.line + 1} holds an alias")
        return super().compose_node(parent, index)


def parse(text: str) -> Any:
    """Return what a YAML text says. Raises :class:`ValueError` with one line of why not."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def read(tree: Tree) -> Files:
    """Return the assets of ``tree``; what cannot be read is among the problems, with its file."""
    files = Files()
    for path, text in tree.below(FOLDER).items():
        file = f"{FOLDER}/{path}"
        try:
            content = parse(text)
        except ValueError as error:
            files.problems.append(f"{file}: it is not YAML: {error}")
            continue
        kind = path.partition("/")[0]
        if path == METADATA:
            continue
        if not isinstance(content, dict):
            files.problems.append(f"{file}: expected fields and values, found something else")
        elif kind == DATABASE_FOLDER:
            files.databases[file] = content
        elif kind not in KINDS:
            files.problems.append(
                f"{file}: expected it in {', '.join([DATABASE_FOLDER, *KINDS])} or {METADATA}"
            )
        elif problems := shapes.faults(kind, content):
            files.problems += (f"{file}: {problem}" for problem in problems)
        else:
            files.assets.append(Asset(kind, content, file))
    return files


def file_name(asset: Asset, database: str) -> str:
    """Return where below ``dashboards/`` an asset is written: by its name, without a local id."""
    stem = re.sub(r"[^A-Za-z0-9]+", "_", asset.name).strip("_") or asset.uuid
    folder = f"{asset.kind}/{database}" if asset.kind == KINDS[0] else asset.kind
    return f"{folder}/{stem}.yaml"


def dump(content: dict[str, Any]) -> str:
    """Return ``content`` as YAML in the order of its keys."""
    return yaml.safe_dump(content, sort_keys=True, allow_unicode=True, width=100)


def metadata() -> str:
    """Return the file that Superset's own import looks for, without the time in it."""
    return dump({"version": _VERSION, "type": "assets"})

"""YAML with line numbers: a strict reader for files that strangers write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from ingest.errors import ContractError, Problem

if TYPE_CHECKING:
    from pathlib import Path

Key = tuple[str | int, ...]
_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # it becomes a DAG id and a URL part
_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
MAX_BYTES = 256 * 1024  # a pipeline of 1,000 tables with every key takes less


@dataclass(frozen=True)
class Document:
    """A file's value and the line, from 1, of every key and item in it (``()`` is the whole)."""

    file: Path
    value: Any
    lines: dict[Key, int]

    def line(self, key: Key) -> int:
        """Return the line of ``key``, or of the nearest thing around it that is there."""
        while key not in self.lines:
            key = key[:-1]
        return self.lines[key]


def check_name(file: Path) -> None:
    """Raise ContractError unless the name of ``file`` is one that becomes a DAG's."""
    if file.suffix != ".yaml" or not _STEM.fullmatch(file.stem):
        wanted = "expected letters, digits, _ or -, then .yaml"
        raise ContractError((Problem(file, 1, "the file's name", wanted),))


def read(file: Path) -> Document:
    """Read ``file``; raise ContractError at the line where it is not plain, unambiguous YAML."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise _fault(file, 1, f"expected at most {MAX_BYTES} bytes of YAML")
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise _fault(file, 1, f"expected a readable file, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        raise _fault(file, line, "expected UTF-8") from error
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = 1 + text.count("\n", 0, error.position)
        raise _fault(file, line, f"expected text, found character {error.character:#x}") from error
    reader = _Reader(file, loader)
    try:
        root = loader.get_single_node()
        value = None if root is None else reader.value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _fault(file, line, f"expected YAML, found: {error.problem or error}") from error
    except yaml.YAMLError as error:
        raise _fault(file, 1, f"expected YAML, found: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise _fault(file, 1, "expected a few levels of keys, found far deeper ones") from error
    finally:
        loader.dispose()
    reader.lines.setdefault((), 1)
    return Document(file, value, reader.lines)


def show(key: Key) -> str:
    """Return ``key`` as analysts would point at it: ``tables[0].name``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "the file"


class _Reader:
    """Turns YAML nodes into values and remembers the line of each."""

    def __init__(self, file: Path, loader: yaml.SafeLoader) -> None:
        self.file = file
        self.loader = loader
        self.lines: dict[Key, int] = {}
        self._met: set[int] = set()

    def value(self, node: yaml.Node, key: Key) -> Any:
        line = self.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            try:
                return self.loader.construct_object(node)
            except ValueError as error:
                raise _fault(self.file, line, f"expected a value, found: {error}", key) from error
        if id(node) in self._met:  # aliases can make a small file huge or endless
            raise _fault(self.file, line, "expected no alias (*name): write it out", key)
        if node.tag not in _PLAIN_TAGS:
            raise _fault(self.file, line, f"expected no tag, found {node.tag}", key)
        self._met.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, place)) for place, item in enumerate(node.value)]
        return self._mapping(node, key)

    def _mapping(self, node: yaml.Node, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode) or not name.value.isprintable():
                raise _fault(self.file, line, "expected a plain word as the key", key)
            below = (*key, name.value)
            if name.value in found:
                raise _fault(self.file, line, "expected once, found twice", below)
            self.lines[below] = line
            found[name.value] = self.value(item, below)
        return found


def _fault(file: Path, line: int, message: str, key: Key = ()) -> ContractError:
    return ContractError((Problem(file, line, show(key), message),))

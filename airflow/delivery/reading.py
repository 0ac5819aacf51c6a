"""What the push's Python does when it is read, and which of its functions reach out.

Decided from the text (delivery.names): no file of the push is run here, so none can answer for
itself.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery import import_time
from delivery.names import Defined, Instance, Module, Names, TangledError, Value, text
from delivery.policies import finding, policies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from delivery.verdict import Finding

MAX_PYTHON = 1024 * 1024
"""Most bytes of a Python file: the largest that people write have a tenth of that."""


@dataclass
class Reading:
    """All Python of a push, read once; ``findings`` are of files that cannot be read at all."""

    names: Names
    by_path: dict[str, Module]
    findings: list[Finding] = field(default_factory=list)
    _lines: dict[str, dict[str, int]] = field(default_factory=dict)
    _reached: dict[tuple[str, str], str] = field(default_factory=dict)

    def at_import(self, file: str) -> list[Finding]:
        """Return what the file at ``file`` does when it is read that it must not do."""
        module = self.by_path.get(file)
        if module is None:
            return []
        self.names.begin()
        try:
            return import_time.findings(self.names, module)
        except (TangledError, RecursionError):
            return [finding("import-time", file, "its names cannot be followed to what they mean")]

    def reaches(self, file: str, qualname: str) -> str:
        """Return through which name a function reaches out, "" if through none.

        ``qualname`` is a task's function, as Airflow keeps it, in a DAG of ``file``. A function
        that is not found there is one that the file imports, or any of that name in the push. What
        this takes counts with what :meth:`at_import` took of the file, which is asked first.
        """
        if (file, qualname) not in self._reached:
            self._reached[file, qualname] = self._reach(file, qualname)
        return self._reached[file, qualname]

    def _reach(self, file: str, qualname: str) -> str:
        module = self.by_path.get(file)
        if module is None:
            return ""
        try:
            found = self._functions(module, qualname)
            return next(filter(None, map(_Reaching(self.names).through, found)), "")
        except (TangledError, RecursionError):
            return "names that cannot be followed"

    def _functions(self, module: Module, qualname: str) -> list[Defined]:
        if qualname in module.defined:
            return [module.defined[qualname]]
        values = self.names.named(qualname, module.scope) if qualname.isidentifier() else []
        others = (each.defined for each in self.by_path.values())
        return [each for each in values if isinstance(each, Defined)] or [
            each[qualname] for each in others if qualname in each
        ]

    def imports(self) -> set[str]:
        """Return the modules of others that the files import at their top."""
        found = set()
        for module in self.by_path.values():
            for node in module.tree.body:
                if isinstance(node, ast.Import):
                    found |= {each.name for each in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
        return found - self.names.modules.keys()

    def line_of(self, file: str, *names: str) -> int:
        """Return the first line that defines a function of one of ``names`` or holds it as text."""
        if file not in self._lines:
            lines: dict[str, int] = {}
            module = self.by_path.get(file)
            for node in ast.walk(module.tree) if module else ():
                match node:
                    case ast.Constant(value=str() as said) | ast.FunctionDef(name=said):
                        lines[said] = min(node.lineno, lines.get(said, node.lineno))
            self._lines[file] = lines
        return next((self._lines[file][each] for each in names if each in self._lines[file]), 0)

    def schedules(self, file: str) -> Iterator[tuple[int, str]]:
        """Yield line and text of each ``schedule=`` that is a text, of DAGs and ``@dag``."""
        module = self.by_path.get(file)
        for node in ast.walk(module.tree) if module else ():
            if isinstance(node, ast.Call) and _last(node.func) in ("DAG", "dag"):
                for given in node.keywords:
                    if given.arg == "schedule" and (said := text(given.value)) is not None:
                        yield given.value.lineno, said


def read(root: Path, files: Iterable[str]) -> Reading:
    """Read the Python files ``files`` of the tree at ``root``, from which modules are imported."""
    names, by_path, findings = Names(), dict[str, Module](), []
    for file in files:
        path = root / file
        try:
            if path.stat().st_size > MAX_PYTHON:
                size = f"more than {MAX_PYTHON} bytes of Python in one file"
                findings.append(finding("bounds", file, size))
                continue
            tree = ast.parse(path.read_bytes())
            name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            names.add(module := Module(file, name, tree))
            by_path[file] = module
        except (RecursionError, MemoryError):
            findings.append(finding("import", file, "it is nested too deeply to be read"))
        except (SyntaxError, ValueError, OSError):
            continue  # the import says it, with the line
    return Reading(names, by_path, findings)


class _Reaching:
    """Finds what a function uses, and what that uses, up to what reaches out."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known: dict[Defined, str] = {}

    def through(self, function: Defined) -> str:
        if function not in self._known:
            self._known[function] = ""  # what calls itself reaches out by something else
            self._known[function] = next(filter(None, self._all(function)), "")
        return self._known[function]

    def _all(self, function: Defined) -> Iterator[str]:
        node = function.node
        nodes: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
        while nodes:
            each = nodes.pop()
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
                yield self.through(self._names.definition(each))
                continue
            nodes.extend(ast.iter_child_nodes(each))
            if isinstance(each, ast.Name | ast.Attribute):
                for value in self._names.resolve(each, function.scope):
                    yield self._of(value)

    def _of(self, value: Value) -> str:
        match value:
            case str():
                return value if policies()["retries"].names("reaching", value) else ""
            case Defined():
                return self.through(value)
            case Instance(of=of):
                return self.through(of)
        return ""


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")

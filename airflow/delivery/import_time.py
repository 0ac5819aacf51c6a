"""What a file of the push does when it is read that it must not do, from its text alone.

What runs when a file is read is its top, the bodies of classes, the functions that these call - one
with ``@dag`` among them, one with ``@task`` not - and the same of what it imports.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from delivery.names import Defined, Instance, text
from delivery.policies import finding, policies

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery.names import Module, Names, Scope, Value
    from delivery.verdict import Finding

# Their first argument is called at once; other calls keep a function for later.
_CALLS_AT_ONCE = ("builtins.", "functools.reduce", "itertools.")
_LATER = frozenset({"python_callable", "key"})
_PROPERTIES = frozenset({"property", "cached_property"})


def findings(names: Names, module: Module) -> list[Finding]:
    """Return what is wrong with what runs when ``module`` is read.

    Raises TangledError, or RecursionError, where names cannot be followed.
    """
    return _Walk(names).read(module)


class _Walk:
    """Walks what runs when one file is read."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._done: set[Scope] = set()
        self.findings: list[Finding] = []

    def read(self, module: Module) -> list[Finding]:
        self._enter(module.scope, module.tree.body)
        return self.findings

    def _enter(self, scope: Scope, nodes: Iterable[ast.AST]) -> None:
        if scope in self._done:
            return
        self._done.add(scope)
        for node in nodes:
            self._run(node, scope)

    def _run(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                heads = [*node.decorator_list, *node.args.defaults]
                for head in (*heads, *filter(None, node.args.kw_defaults)):
                    self._run(head, scope)
                for decorator in node.decorator_list:
                    self._called(decorator, self._names.resolve(decorator, scope), [])
            case ast.ClassDef():
                for head in (*node.decorator_list, *node.bases, *(k.value for k in node.keywords)):
                    self._run(head, scope)
                self._enter(self._names.definition(node).scope, node.body)
            case ast.Lambda():
                pass
            case ast.If(test=test, orelse=orelse) if _not_here(test):
                for each in orelse:
                    self._run(each, scope)
            case _:
                self._look_at(node, scope)
                for child in ast.iter_child_nodes(node):
                    self._run(child, scope)

    def _look_at(  # noqa: PLR0912 - a case for each kind of node
        self, node: ast.AST, scope: Scope
    ) -> None:
        match node:
            case ast.Import(names=names):
                for each in names:
                    self._import(each.name)
            case ast.ImportFrom():
                for each in node.names:
                    self._imported_from(node, each.name, scope)
            case ast.Call(func=func, args=args, keywords=keywords):
                given = [*args, *(k.value for k in keywords if k.arg not in _LATER)]
                self._called(node, self._names.resolve(func, scope), given, scope)
                self._arguments(given, scope)
            case ast.withitem(context_expr=of):
                self._ask(of, "__enter__", scope)
            case ast.Assign(targets=targets):
                for target in targets:
                    self._set(target, scope)
            case ast.AugAssign(target=target) | ast.Delete(targets=[target, *_]):
                self._set(target, scope)
            case ast.Attribute(attr=name) if name in policies()["import-time"].more["attributes"]:
                self._add("import-time", node, scope, f"it looks into Python itself by {name}")
            case ast.Attribute(value=of, attr=name):
                self._ask(of, name, scope, _PROPERTIES)
            case ast.Constant(value=str() as said):
                for begin in policies()["lookup"].more["environment"]:
                    if said.startswith(begin):
                        what = f"it asks for {begin}… when the file is read"
                        self._add("lookup", node, scope, what)

    def _import(self, dotted: str) -> None:
        """Read a module of the push as Python does: with the packages that it is in."""
        parts = dotted.split(".")
        for count in range(1, len(parts) + 1):
            module = self._names.modules.get(".".join(parts[:count]))
            if module is not None:
                self._enter(module.scope, module.tree.body)

    def _imported_from(self, node: ast.ImportFrom, name: str, scope: Scope) -> None:
        start = scope.module.package.split(".") if node.level else []
        start = start[: len(start) - node.level + 1] if node.level else []
        where = ".".join([*start, *filter(None, [node.module])])
        self._import(where)
        self._import(f"{where}.{name}")

    def _called(
        self, node: ast.AST, values: Iterable[Value], given: list[ast.expr],
        scope: Scope | None = None,
    ) -> None:  # fmt: skip
        for value in values:
            match value:
                case str():
                    if scope is not None:
                        self._judge(value, node, scope)
                    if value.startswith(_CALLS_AT_ONCE) and scope is not None:
                        self._call_arguments(given, scope)
                case Defined(node=ast.ClassDef()):
                    for method in ("__new__", "__init__", "__post_init__"):
                        self._call_all(self._names.attribute(value, method))
                case Defined():
                    self._call(value)
                    if scope is not None and isinstance(node, ast.Call):
                        self._call_arguments(self._called_there(value, node), scope)
                case Instance():
                    self._call_all(self._names.attribute(value, "__call__"))

    def _ask(
        self, of: ast.expr, name: str, scope: Scope, only: frozenset[str] = frozenset()
    ) -> None:
        """Call the method ``name`` of an object of the push, if it has one of ``only``."""
        for value in self._names.resolve(of, scope):
            if isinstance(value, Instance):
                methods = self._names.attribute(value, name)
                self._call_all(each for each in methods if not only or _decorated(each) & only)

    def _call_all(self, values: Iterable[Value]) -> None:
        for value in values:
            if isinstance(value, Defined):
                self._call(value)

    def _call(self, function: Defined) -> None:
        node = function.node
        if isinstance(node, ast.Lambda):
            self._enter(function.scope, [node.body])
        elif not isinstance(node, ast.ClassDef) and not self._is_task(function):
            self._enter(function.scope, node.body)

    def _called_there(
        self, function: Defined, call: ast.Call, within: tuple[Defined, ...] = ()
    ) -> list[ast.expr]:
        """Return what ``call`` gives to a function of the push that calls it, or hands it on to be.

        A factory only puts it into an operator, for later.
        """
        if function in within or isinstance(function.node, ast.ClassDef):
            return []
        args = function.node.args
        names = [each.arg for each in (*args.posonlyargs, *args.args)]
        if self._names.of_class(function) is not None:
            names = names[1:]
        given = {k.arg: k.value for k in call.keywords if k.arg}
        given |= dict(zip(names, call.args, strict=False))
        called = set()
        for each in (node for node in ast.walk(function.node) if isinstance(node, ast.Call)):
            handed = [each.func]
            for value in self._names.resolve(each.func, function.scope):
                if isinstance(value, str) and value.startswith(_CALLS_AT_ONCE):
                    handed += each.args
                elif isinstance(value, Defined):
                    handed += self._called_there(value, each, (*within, function))
            called |= {name.id for name in handed if isinstance(name, ast.Name)}
        return [value for name, value in given.items() if name in called]

    def _is_task(self, function: Defined) -> bool:
        """Return whether a call makes a task of it and runs nothing: ``@task``, ``@task.bash``."""
        outer = function.scope.parent or function.scope
        for decorator in getattr(function.node, "decorator_list", []):
            made = decorator.func if isinstance(decorator, ast.Call) else decorator
            for value in self._names.resolve(made, outer):
                if isinstance(value, str) and _is_task(value):
                    return True
        return False

    def _call_arguments(self, given: list[ast.expr], scope: Scope) -> None:
        for each in given:
            self._call_all(self._names.resolve(each, scope))

    def _arguments(self, given: list[ast.expr], scope: Scope) -> None:
        """Judge functions of others that are handed on: whoever gets one may call it."""
        for each in given:
            if isinstance(each, ast.Name | ast.Attribute):
                for value in self._names.resolve(each, scope):
                    if isinstance(value, str) and not value.endswith(")"):
                        self._judge(value, each, scope)

    def _judge(self, dotted: str, node: ast.AST, scope: Scope) -> None:
        rules = policies()
        if dotted.rpartition(".")[2].isupper() and not isinstance(node, ast.Call):
            return  # a constant, such as signal.SIGTERM
        if any(rules[rule].names("harmless", dotted) for rule in ("lookup", "import-time")):
            return
        if rules["lookup"].names("names", dotted):
            asked = dotted.partition("()")[0]
            if asked == dotted or not rules["lookup"].names("names", asked):  # said of that call
                self._add("lookup", node, scope, f"it calls {dotted} when the file is read")
        elif rules["import-time"].names("names", dotted):
            self._add("import-time", node, scope, f"it uses {dotted} when the file is read")
        elif dotted in (
            "builtins.setattr",
            "builtins.getattr",
            "builtins.vars",
            "builtins.delattr",
        ):
            self._by_text(dotted, node, scope)
        elif dotted in ("builtins.__import__", "importlib.import_module") and (
            isinstance(node, ast.Call) and node.args and text(node.args[0]) is None
        ):
            what = "it imports a module whose name only running it would say"
            self._add("import-time", node, scope, what)

    def _by_text(self, dotted: str, node: ast.AST, scope: Scope) -> None:
        """Judge ``getattr`` and its like on a module of others by a name that is no constant."""
        if not isinstance(node, ast.Call) or not node.args:
            return
        known = dotted == "builtins.getattr" and len(node.args) > 1 and text(node.args[1])
        for value in self._names.resolve(node.args[0], scope):
            if isinstance(value, str) and not known and self._is_foreign(value):
                name = dotted.removeprefix("builtins.")
                self._add("import-time", node, scope, f"it uses {name} on {value}")

    def _set(self, target: ast.expr, scope: Scope) -> None:
        match target:
            case ast.Attribute(value=value) | ast.Subscript(value=ast.Attribute() as value):
                for found in self._names.resolve(value, scope):
                    name = f"{found}.{target.attr}" if isinstance(target, ast.Attribute) else found
                    if isinstance(found, str) and self._is_foreign(str(name)):
                        what = f"it changes {name}, which is not its own"
                        self._add("import-time", target, scope, what)
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                for element in elements:
                    self._set(element, scope)

    @staticmethod
    def _is_foreign(dotted: str) -> bool:
        rule, module = policies()["import-time"], dotted.partition(".")[0]
        return (
            "()" not in dotted and dotted not in rule.more["own"] and module in rule.more["foreign"]
        )

    def _add(self, rule: str, node: ast.AST, scope: Scope, what: str) -> None:
        line = getattr(node, "lineno", 0)
        self.findings.append(finding(rule, scope.module.path, what, line=line))


def _decorated(value: Value) -> set[str]:
    decorators = getattr(value.node, "decorator_list", []) if isinstance(value, Defined) else []
    return {getattr(each, "attr", getattr(each, "id", "")) for each in decorators}


def _is_task(dotted: str) -> bool:
    parts = dotted.removesuffix("()").split(".")
    return parts[0] == "airflow" and bool({"task", "setup", "teardown"} & {*parts[-2:]})


def _not_here(test: ast.expr) -> bool:
    """Return whether a condition is false when Airflow reads the file."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()]):
            return True
    return False

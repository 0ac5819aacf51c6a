"""What a name in the push's Python stands for: decided from the text, without running any of it.

A value is what an expression may stand for: a dotted name of a module that is not the push's
("airflow.sdk.Variable.get", with "()" after what was called), a function or class of the push, or
an object of such a class. An expression has several where branches bind one name; it has none
where only running it could say.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_DEEP = 300
"""How far an alias of an alias is followed."""
_STEPS = 100_000
"""How many expressions are looked at for one file; of 966 public ones none took more than 4,000."""
_MOST = 1000
"""How many values one expression may stand for."""
_NEVER = 1 << 60


class TangledError(Exception):
    """Names stand for names further than is followed."""


@dataclass(eq=False)
class Scope:
    """The names that a module, class or function binds, and where it stands.

    ``of`` is the class or function itself.
    """

    module: Module
    parent: Scope | None
    is_class: bool = False
    qualname: str = ""
    bound: dict[str, list[ast.AST | str | Defined | Instance]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    of: Defined | None = None


@dataclass(eq=False)
class Module:
    """A Python file of the push: its path, its dotted name, its tree, the names it binds."""

    path: str
    name: str
    tree: ast.Module
    scope: Scope = field(init=False)
    defined: dict[str, Defined] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """Return the dotted name from which its relative imports go."""
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]


@dataclass(frozen=True, eq=False)
class Defined:
    """A function or class of the push; ``scope`` is what its body binds."""

    node: Definition
    scope: Scope

    @property
    def module(self) -> Module:
        """Return the file that defines it."""
        return self.scope.module


@dataclass(frozen=True)
class Instance:
    """An object of a class of the push."""

    of: Defined


Value = str | Defined | Instance | Module


class Names:
    """The names of all modules of a push."""

    def __init__(self) -> None:
        self.modules: dict[str, Module] = {}
        self._defined: dict[ast.AST, Defined] = {}
        self._known: dict[tuple[ast.AST | str, Scope], list[Value]] = {}
        # What is being followed, in order, with what is known of it so far.
        self._following: dict[tuple[ast.AST | str, Scope], tuple[int, dict[Value, None]]] = {}
        self._cut = _NEVER  # the first of those that was met again below itself
        self._steps = 0

    def add(self, module: Module) -> None:
        """Note what a module binds. Raises RecursionError if it is nested too deeply."""
        module.scope = Scope(module, None)
        self._bind(below(module.tree), module.scope)
        self.modules[module.name] = module

    def definition(self, node: ast.AST) -> Defined:
        """Return the function or class of ``node``, any that stands in a module."""
        return self._defined[node]

    def begin(self) -> None:
        """Begin with another file: what is known stays, what it may take is its own."""
        self._steps = 0

    def resolve(self, node: ast.AST | str, scope: Scope, deep: int = 0) -> list[Value]:
        """Return what an expression, or a name that ``scope`` binds, may stand for.

        A name that is bound by what it stood for before (``df = df.dropna()``) is what it was.
        Raises TangledError, or RecursionError, where that is further away than is followed.
        """
        mark = (node, scope)
        if mark in self._known:
            return self._known[mark]
        if mark in self._following:
            place, so_far = self._following[mark]
            self._cut = min(self._cut, place)
            return list(so_far)
        self._steps += 1
        if deep > _DEEP or self._steps > _STEPS:
            raise TangledError
        place, found, above = len(self._following), dict[Value, None](), self._cut
        self._following[mark] = place, found
        self._cut = _NEVER
        try:
            for value in self._resolve(node, scope, deep + 1):
                found[value] = None
                if len(found) > _MOST:
                    raise TangledError
            if self._cut >= place:  # otherwise it lacks what stands further up
                self._known[mark] = list(found)
                self._cut = _NEVER
        finally:
            del self._following[mark]
            self._cut = min(above, self._cut)
        return list(found)

    def named(self, name: str, scope: Scope) -> list[Value]:
        """Return what a name may stand for where ``scope`` is; raises as :meth:`resolve`."""
        return list(self._name(name, scope, 0))

    def _resolve(  # noqa: PLR0912 - a case for each kind of expression
        self, node: ast.AST | str, scope: Scope, deep: int
    ) -> Iterator[Value]:
        match node:
            case str():
                for value in scope.bound[node]:
                    match value:
                        case str():
                            yield from self._locate(value, deep)
                        case ast.AST():
                            yield from self.resolve(value, scope, deep)
                        case _:
                            yield value
            case ast.Name(id=name):
                yield from self._name(name, scope, deep)
            case ast.Attribute(value=value, attr=name):
                for of in self.resolve(value, scope, deep):
                    yield from self.attribute(of, name, deep)
            case ast.Call():
                yield from self._call(node, scope, deep)
            case ast.IfExp(body=value, orelse=orelse):
                yield from self.resolve(value, scope, deep)
                yield from self.resolve(orelse, scope, deep)
            case ast.BoolOp(values=values):
                for each in values:
                    yield from self.resolve(each, scope, deep)
            case ast.NamedExpr(value=value) | ast.Await(value=value):
                yield from self.resolve(value, scope, deep)
            case ast.Subscript(
                value=ast.List(elts=held) | ast.Tuple(elts=held) | ast.Dict(values=held)
            ):
                for each in held:
                    yield from self.resolve(each, scope, deep)
            case ast.Subscript(value=ast.Name(id=name)):
                for each in self._elements(name, scope):
                    yield from self.resolve(each, scope, deep)
            case ast.Lambda() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield self._defined[node]

    @staticmethod
    def _elements(name: str, scope: Scope) -> Iterator[ast.expr]:
        """Yield what a list, tuple or dict that is bound to ``name`` holds."""
        around = (each for each in _around(scope) if name in each.bound)
        for value in next((each.bound[name] for each in around), []):
            match value:
                case ast.Dict(values=elements) | ast.List(elts=elements) | ast.Tuple(elts=elements):
                    yield from elements

    def _name(self, name: str, scope: Scope, deep: int) -> Iterator[Value]:
        for found in _around(scope):
            if name in found.bound:
                yield from self._bound(name, found, deep)
                return
            for star in found.stars:
                for value in self._locate(star, deep):
                    yield from self.attribute(value, name, deep)
        if hasattr(builtins, name):
            yield f"builtins.{name}"

    def _bound(self, name: str, scope: Scope, deep: int) -> Iterator[Value]:
        yield from self.resolve(name, scope, deep - 1)

    def _locate(self, dotted: str, deep: int) -> Iterator[Value]:
        """Yield what a dotted name of an import stands for."""
        if deep > _DEEP:
            raise TangledError
        if dotted in self.modules:
            yield self.modules[dotted]
            return
        head, _, rest = dotted.rpartition(".")
        if head in self.modules:
            module = self.modules[head]
            if rest in module.scope.bound:
                yield from self._bound(rest, module.scope, deep + 1)
                return
            for star in module.scope.stars:
                for value in self._locate(star, deep + 1):
                    yield from self.attribute(value, rest, deep + 1)
            return
        yield dotted

    def attribute(self, value: Value, name: str, deep: int = 0) -> Iterator[Value]:
        """Yield what ``value.name`` may stand for."""
        match value:
            case str():
                yield from self._locate(f"{value}.{name}", deep + 1)
            case Module():
                yield from self._locate(f"{value.name}.{name}", deep + 1)
            case Defined(node=ast.ClassDef() as node, scope=scope):
                if name in scope.bound:
                    yield from self._bound(name, scope, deep + 1)
                for base in node.bases:
                    for each in self.resolve(base, scope.parent or scope, deep + 1):
                        yield from self.attribute(each, name, deep + 1)
            case Instance(of=of):
                for each in self.attribute(of, name, deep + 1):
                    # A base that is not the push's: it is its object that is asked.
                    yield self._of_object(each) if isinstance(each, str) else each

    @staticmethod
    def _of_object(dotted: str) -> str:
        head, _, name = dotted.rpartition(".")
        return f"{head}().{name}"

    def _call(self, node: ast.Call, scope: Scope, deep: int) -> Iterator[Value]:
        for called in self.resolve(node.func, scope, deep):
            match called:
                case "builtins.getattr" if len(node.args) > 1 and (name := text(node.args[1])):
                    for value in self.resolve(node.args[0], scope, deep):
                        yield from self.attribute(value, name, deep)
                case "functools.partial" if node.args:
                    yield from self.resolve(node.args[0], scope, deep)
                case "builtins.__import__" | "importlib.import_module" if node.args and (
                    name := text(node.args[0])
                ):
                    yield from self._locate(name, deep)
                case str():
                    # A method's answer counts as the object that was asked: df.dropna() as df.
                    made, _, more = called.partition("()")
                    yield f"{made}()" if more else f"{called}()"
                case Defined(node=ast.ClassDef()):
                    yield Instance(called)
                case Defined(node=ast.Lambda(body=value), scope=inner):
                    yield from self.resolve(value, inner, deep)
                case Defined(node=made, scope=inner):
                    for each in body(made):
                        if isinstance(each, ast.Return) and each.value:
                            yield from self.resolve(each.value, inner, deep)

    @staticmethod
    def of_class(function: Defined) -> Instance | Defined | None:
        """Return what is a method's first parameter: its object, or its class; None if neither."""
        around = function.scope.parent
        decorators = getattr(function.node, "decorator_list", [])
        kinds = {each.id for each in decorators if isinstance(each, ast.Name)}
        if around is None or around.of is None or not around.is_class or "staticmethod" in kinds:
            return None
        if isinstance(function.node, ast.Lambda):
            return None
        of_all = "classmethod" in kinds or function.node.name == "__new__"
        return around.of if of_all else Instance(around.of)

    def _bind(self, nodes: Iterable[ast.AST], scope: Scope) -> None:
        """Note all that ``nodes`` bind in ``scope``, and what they define."""
        for node in nodes:
            self._bind_one(node, scope)

    def _bind_one(  # noqa: PLR0912 - a case for each kind of statement
        self, node: ast.AST, scope: Scope
    ) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                scope.bound.setdefault(node.name, []).append(node)
                for head in ast.iter_child_nodes(node):
                    if head not in node.body:  # its lambdas stand in the scope around it
                        self._bind([head, *below(head)], scope)
                self._define(node, node.name, scope)
            case ast.Lambda():
                self._define(node, "<lambda>", scope)
            case ast.Import(names=names):
                for each in names:
                    top = each.name if each.asname else each.name.partition(".")[0]
                    scope.bound.setdefault(each.asname or top, []).append(top)
            case ast.ImportFrom(module=origin, names=names, level=level):
                start = _package(scope.module, level)
                where = ".".join(filter(None, [start, origin]))
                for each in names:
                    if each.name == "*":
                        scope.stars.append(where)
                    else:
                        scope.bound.setdefault(each.asname or each.name, []).append(
                            f"{where}.{each.name}"
                        )
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    _assign(target, value, scope)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _assign(target, value, scope)
            case ast.NamedExpr(target=target, value=value):
                _assign(target, value, scope)
            case ast.For(target=target, iter=ast.List(elts=elements) | ast.Tuple(elts=elements)):
                for element in elements:
                    _assign(target, element, scope)
            case ast.withitem(context_expr=value, optional_vars=ast.expr() as target):
                _assign(target, value, scope)

    def _define(self, node: Definition, name: str, scope: Scope) -> None:
        inside = "" if scope.parent is None else scope.qualname
        local = f"{inside}{'.' if scope.is_class else '.<locals>.'}" if inside else ""
        inner = Scope(
            scope.module, scope, isinstance(node, ast.ClassDef), qualname=f"{local}{name}"
        )
        made = inner.of = Defined(node, inner)
        self._defined[node] = made
        # Of two with one name the later one counts, as it does when it runs.
        scope.module.defined[inner.qualname] = made
        if not isinstance(node, ast.ClassDef):
            # A parameter hides the name outside; what it is, only the call says.
            args = node.args
            for each in (*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg):
                if each is not None:
                    inner.bound[each.arg] = []
            own = self.of_class(made)
            for first in (*args.posonlyargs, *args.args)[:1]:
                inner.bound[first.arg] += [own] if own else []
        self._bind(body(node), inner)


def _around(scope: Scope) -> Iterator[Scope]:
    """Yield the scopes in which a name is looked for: no class around a function."""
    yield scope
    outer = scope.parent
    while outer is not None:
        if not outer.is_class:
            yield outer
        outer = outer.parent


def below(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes below ``node`` that are of its scope: of a definition none."""
    todo = [] if isinstance(node, _DEFINITIONS) else [node]
    while todo:
        for child in ast.iter_child_nodes(todo.pop()):
            yield child
            if not isinstance(child, _DEFINITIONS):
                todo.append(child)


def body(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a definition's body that are of the scope that it makes."""
    held = node.body if isinstance(node, _DEFINITIONS) else []
    for each in [held] if isinstance(held, ast.expr) else held:
        yield each
        yield from below(each)


def text(node: ast.AST) -> str | None:
    """Return the text of an expression of constants: "a" + "b", f"a{'b'}", "".join(["a", "b"])."""
    match node:
        case ast.Constant(value=str() as value):
            return value
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = [text(left), text(right)]
        case ast.JoinedStr(values=values):
            parts = [text(each) for each in values]
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return text(value)
        case ast.Call(
            func=ast.Attribute(value=between, attr="join"),
            args=[ast.List(elts=elements) | ast.Tuple(elts=elements)],
            keywords=[],
        ):
            pieces, glue = [text(each) for each in elements], text(between)
            if glue is None or any(each is None for each in pieces):
                return None
            return glue.join(each for each in pieces if each is not None)
        case _:
            return None
    return None if any(each is None for each in parts) else "".join(map(str, parts))


def _assign(target: ast.expr, value: ast.expr, scope: Scope) -> None:
    match target, value:
        case ast.Name(id=name), _:
            scope.bound.setdefault(name, []).append(value)
        case (
            (ast.Tuple(elts=names) | ast.List(elts=names)),
            (ast.Tuple(elts=values) | ast.List(elts=values)),
        ):
            for each, its in zip(names, values, strict=False):
                _assign(each, its, scope)


def _package(module: Module, level: int) -> str:
    if level == 0:
        return ""
    parts = module.package.split(".")
    return ".".join(parts[: len(parts) - level + 1])

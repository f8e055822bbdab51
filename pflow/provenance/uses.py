"""Which names of its module, and of others, a piece of code uses, by Python's rules of scope.

The result may contain more names than are used, never fewer: a name that may belong to the module
is included.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["FUNCTIONS", "Uses", "arguments_of", "dotted"]

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Uses(ast.NodeVisitor):
    """Collects names from syntax trees.

    Attributes:
        values: dotted names whose objects are used: called, read, handed on.
        types: dotted names that stand where only a class as such matters: in `isinstance`, in the
            annotation of a class's field, as a base class, in a union, as the key of a mapping.
        strings: text constants.
    """

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.types: set[str] = set()
        self.strings: set[str] = set()
        self._local: frozenset[str] = frozenset()
        self._found = self.values
        self._in_class = False

    def of_types(self, *nodes: ast.AST | None) -> None:
        """Visit nodes whose names are types."""
        before, self._found = self._found, self.types
        self._all(nodes)
        self._found = before

    def of_values(self, *nodes: ast.AST | None) -> None:
        """Visit nodes whose names are values."""
        before, self._found = self._found, self.values
        self._all(nodes)
        self._found = before

    def visit_Name(self, node: ast.Name) -> None:
        if node.id not in self._local:
            self._found.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = dotted(node)
        if not name:
            self.generic_visit(node)
        elif name.split(".")[0] not in self._local:
            self._found.add(name)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.strings.add(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        asks_for_type = dotted(node.func) in ("isinstance", "issubclass") and len(node.args) == 2
        self.of_values(node.func, *node.args[: 1 if asks_for_type else None], *node.keywords)
        if asks_for_type:
            self.of_types(node.args[1])

    def visit_Dict(self, node: ast.Dict) -> None:
        self.of_types(*node.keys)
        self._all(node.values)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        self.of_types(node.slice)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        (self.of_types if isinstance(node.op, ast.BitOr) else self.of_values)(node.left, node.right)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self.of_types(node.cls)
        self._all([*node.patterns, *node.kwd_patterns])

    def visit_Import(self, node: ast.Import) -> None:
        self.values.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        names = [alias.name for alias in node.names]
        self.values.update(module if name == "*" else f"{module}.{name}" for name in names)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._in_class:
            self.of_types(node.annotation)
        self._all([node.target, node.value])

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.of_values(*node.decorator_list)
        self._function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.of_values(*node.decorator_list, *node.keywords)
        self.of_types(*node.bases)
        before, self._in_class = self._in_class, True
        self.of_values(*node.body)
        self._in_class = before

    def _function(self, arguments: ast.arguments, body: Sequence[ast.AST]) -> None:
        self.of_values(*arguments.defaults, *arguments.kw_defaults)
        before = self._local, self._in_class
        self._local, self._in_class = self._local | _locals(arguments, body), False
        self.of_values(*body)
        self._local, self._in_class = before

    def _all(self, nodes: Iterable[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression that is a name or attributes of one; else ""."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (base := dotted(node.value)):
        return f"{base}.{node.attr}"
    return ""


def arguments_of(arguments: ast.arguments) -> list[ast.arg]:
    """All arguments of a function."""
    further = [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *further]


def _locals(arguments: ast.arguments, body: Sequence[ast.AST]) -> set[str]:
    """Names that are local to a function: they hide those of its module."""
    bound, declared = {argument.arg for argument in arguments_of(arguments)}, set()
    for node in _own_scope(body):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.Global):
            declared.update(node.names)
    return bound - declared


def _own_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The nodes of a function's body, without those of functions, classes and comprehensions in
    it.
    """
    for node in nodes:
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda, *COMPREHENSIONS)):
            yield from _own_scope(ast.iter_child_nodes(node))

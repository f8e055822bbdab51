"""What one module of pflow defines at its top level, and which names each definition uses, read
from its syntax tree.

Left out of a definition's content, because no result depends on them: comments, docstrings, the
annotations of functions, and the fields of settings classes (`setting(...)`), whose names and
values stand in the settings text of every job that reads them. Code that builds a settings object
itself takes the defaults, so defaults are kept apart (`Definition.fields`).
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pflow.provenance.uses import FUNCTIONS, Uses, arguments_of, dotted

__all__ = ["STATEMENTS", "Definition", "Module", "normalised_code", "read_module"]

SETTING = "pflow.config.decoding.setting"
STATEMENTS = ""  # the name under which all statements that define nothing are kept
MODULE_NAME = re.compile(r"pflow(\.\w+)+")


class Definition(NamedTuple):
    """A function, a class or a constant of a module.

    Attributes:
        content: hash of what it does; "" for names of types, which only annotations use.
        values: dotted names that it uses.
        types: those that it only compares types with, or declares fields with.
        modules: names of modules of pflow among its text constants, as `importlib` takes them.
        fields: hash of names and defaults of the fields of a settings class, else "".
        defaults: dotted names that these defaults, and the base classes, use.
        signature: names in the annotations of a function's arguments.
        files: whether it uses `__file__`, and so may read files beside it.
        tag: of a settings class that is one of several: the word in a configuration that selects
            it, else "".
        label: of another class: its attribute `name`, else "".
    """

    content: str
    values: list[str]
    types: list[str]
    modules: list[str]
    fields: str
    defaults: list[str]
    signature: list[str]
    files: bool
    tag: str
    label: str


class Module(NamedTuple):
    """The definitions of a module, what its imported names stand for, and the modules that are
    imported with it.
    """

    definitions: dict[str, Definition]
    imports: dict[str, str]
    stars: list[str]
    imported: list[str]


def normalised_code(tree: ast.AST) -> str:
    """What a syntax tree does, as text: without comments and without docstrings, which it removes
    from `tree`.
    """
    _normalise(tree)
    return ast.dump(tree)


def read_module(source: bytes) -> Module:
    """The definitions of a module."""
    tree = ast.parse(source)
    bound: dict[str, list[ast.stmt]] = {STATEMENTS: []}
    imports: dict[str, str] = {}
    stars: list[str] = []
    imported: list[str] = []
    body = [part for node in tree.body for part in _at_run_time(node)]
    for node in _statements(body):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _read_import(node, imports, stars, imported)
    for node in body:
        names = list(_names(node))
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        imports_something = isinstance(node, (ast.Import, ast.ImportFrom))
        if docstring or imports_something:
            continue
        for name in names or [STATEMENTS]:
            bound.setdefault(name, []).append(node)
        for name in [] if names else _inside(node):
            bound.setdefault(name, [])  # its statement counts with any definition of the module
    settings = {name for name, target in imports.items() if target == SETTING}
    definitions = {name: _definition(nodes, settings) for name, nodes in bound.items()}
    return Module(definitions, imports, stars, imported)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, those inside `if`, `try`, ... included."""
    for node in body:
        yield node
        if _for_type_checkers(node) or isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            continue
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                yield from _statements([child])
            elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
                yield from _statements(child.body)


def _at_run_time(node: ast.stmt) -> list[ast.stmt]:
    """The statement itself; of `if TYPE_CHECKING:` what stands under its `else`."""
    return node.orelse if isinstance(node, ast.If) and _for_type_checkers(node) else [node]


def _for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in dotted(node.test)


def _read_import(
    node: ast.Import | ast.ImportFrom,
    imports: dict[str, str],
    stars: list[str],
    imported: list[str],
) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            imports[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )
            imported.append(alias.name)
        return
    module = node.module or ""
    imported.append(module)
    for alias in node.names:
        if alias.name == "*":
            stars.append(module)
        else:
            imports[alias.asname or alias.name] = f"{module}.{alias.name}"
            imported.append(f"{module}.{alias.name}")


def _names(node: ast.stmt) -> Iterator[str]:
    """Names that a top-level statement defines; none for one that does something."""
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        yield node.name
    elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        parts = [
            part
            for target in targets
            for part in (target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target])
        ]
        names = [part.id for part in parts if isinstance(part, ast.Name)]
        if len(names) == len(parts):
            yield from names


def _inside(node: ast.stmt) -> Iterator[str]:
    """Names that are defined inside an `if`, `try`, ... at the top level."""
    for inner in _statements([node]):
        yield from _names(inner)


def _definition(nodes: list[ast.stmt], settings: set[str]) -> Definition:
    content, fields = hashlib.sha256(), hashlib.sha256()
    uses, defaults, signature = Uses(), Uses(), Uses()
    constants: dict[str, str] = {}
    has_fields = False
    for node in nodes:
        if isinstance(node, FUNCTIONS):
            signature.of_types(*(argument.annotation for argument in arguments_of(node.args)))
        _normalise(node, annotations=False)
        if isinstance(node, ast.ClassDef):
            constants = _constants(node)
            defaults.of_values(*node.bases)
            for name, annotation, default in _take_fields(node, settings):
                has_fields = True
                uses.of_types(annotation)
                defaults.of_values(default)
                fields.update(f"{name} {default and ast.dump(default)}\0".encode())
        uses.visit(node)
        content.update(f"{ast.dump(node)}\0".encode())
    does_something = any(not _names_types(node) for node in nodes)
    return Definition(
        content.hexdigest() if does_something else "",
        sorted(uses.values),
        sorted(uses.types),
        sorted(text for text in uses.strings if MODULE_NAME.fullmatch(text)),
        fields.hexdigest() if has_fields else "",
        sorted(defaults.values),
        sorted(signature.types),
        "__file__" in uses.values,
        constants.get("user_key") or constants.get("tag_value", ""),
        constants.get("name", ""),
    )


def _names_types(node: ast.stmt) -> bool:
    """Whether a statement only gives a union or the like a name, for annotations."""
    value = node.value if isinstance(node, ast.Assign) else None
    return isinstance(value, ast.Subscript) and dotted(value.value) in ("Union", "Literal")


def _take_fields(
    node: ast.ClassDef, settings: set[str]
) -> list[tuple[str, ast.expr, ast.expr | None]]:
    """(name, annotation, default) of the fields of a settings class, which go from its body."""
    taken, kept = [], []
    for part in node.body:
        call = part.value if isinstance(part, ast.AnnAssign) else None
        if (
            isinstance(part, ast.AnnAssign)
            and isinstance(part.target, ast.Name)
            and isinstance(call, ast.Call)
            and dotted(call.func) in settings
        ):
            default = next(
                (k.value for k in call.keywords if k.arg in ("default", "factory")), None
            )
            default = call.args[1] if len(call.args) > 1 else default
            taken.append((part.target.id, part.annotation, default))
        else:
            kept.append(part)
    node.body = kept
    return taken


def _constants(node: ast.ClassDef) -> dict[str, str]:
    """Class attributes that hold text."""
    return {
        name: part.value.value
        for part in node.body
        if isinstance(part, (ast.Assign, ast.AnnAssign))
        and isinstance(part.value, ast.Constant)
        and isinstance(part.value.value, str)
        for name in _names(part)
    }


def _normalise(tree: ast.AST, annotations: bool = True) -> None:
    """Remove docstrings and, unless they are wanted, the annotations of functions and of variables:
    only those of a class's attributes are read at run time.
    """
    attributes: set[int] = set()
    for node in ast.walk(tree):  # a class comes before what is in it
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
        if annotations:
            continue
        if isinstance(node, ast.ClassDef):
            attributes.update(id(part) for part in node.body)
        elif isinstance(node, ast.AnnAssign) and id(node) not in attributes:
            node.annotation = ast.Constant(None)
        elif isinstance(node, FUNCTIONS):
            node.returns = None
            for argument in arguments_of(node.args):
                argument.annotation = None

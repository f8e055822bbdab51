"""The settings of a class or a function: its arguments, read from its source and never imported.

A float is a number, a `Literal` a choice, a `Path` a file that must exist. The section `Arguments:`
of the class docstring describes them; bounds are added with `noise_std: Annotated[float,
setting(above=0)] = 0.1`, or with a description of its own `setting("What it is.", above=0)`.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pflow.config.docstring import described_arguments
from pflow.errors import PflowError
from pflow.provenance.modules import module_path
from pflow.provenance.user_code import Definition, find_definition
from pflow.settings.declaration import BOUNDS, MISSING, setting

__all__ = ["fields_of", "given_arguments", "lineage"]

SCALARS = {"float": float, "int": int, "bool": bool, "str": str, "Path": Path, "pathlib.Path": Path}
LISTS: dict[str, Any] = {
    "list": list,
    "List": list,
    "Sequence": list,
    "tuple": tuple,
    "Tuple": tuple,
}


class Signature(NamedTuple):
    """The arguments of a class or a function without `self`, and their descriptions."""

    positional: list[ast.arg]
    arguments: ast.arguments
    docstring: str
    path: Path


class Argument(NamedTuple):
    """One argument as it is written."""

    name: str
    annotation: ast.expr | None
    default: ast.expr | None
    place: str  # file and line, for messages


def fields_of(definition: Definition, reserved: Collection[str] = ()) -> list[tuple[str, Any, Any]]:
    """(name, type, field) of each argument, for `dataclasses.make_dataclass`.

    Arguments:
        definition: the class or the function.
        reserved: names that an argument must not have.

    Raises:
        PflowError: an argument cannot be a setting.
    """
    node, path = definition
    signature = _signature(definition)
    if signature is None:
        return []
    arguments = signature.arguments
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        raise PflowError(
            f"{path}, line {node.lineno}: `{node.name}` must name its settings one by one: replace"
            " *args, **kwargs and / by arguments"
        )
    descriptions = described_arguments(signature.docstring)
    fields = []
    for argument in _arguments(signature):
        if argument.name in reserved:
            raise PflowError(
                f"{argument.place}: `{argument.name}` is taken in a configuration: give this"
                " argument another name"
            )
        description = descriptions.get(argument.name, f"Argument `{argument.name}`.")
        fields.append((argument.name, *_field(argument, description)))
    return fields


def given_arguments(settings: Any, besides: Collection[str] = ()) -> dict[str, Any]:
    """The arguments of the class: every field of `settings` that was made by `fields_of`.

    A setting that was left out, and whose default is an expression, keeps the default in the code.
    """
    return {
        f.name: getattr(settings, f.name)
        for f in dataclasses.fields(settings)
        if f.name not in besides
        and not (f.metadata["default_in_code"] and getattr(settings, f.name) is None)
    }


def lineage(definition: Definition) -> Iterator[Definition]:
    """A class and the classes that it inherits from, in the order in which Python looks through
    them; without `Problem` itself, whose arguments are no settings.
    """
    yield definition
    bases = definition.node.bases if isinstance(definition.node, ast.ClassDef) else []
    for base in bases:
        parent = find_definition(definition.path, base.id) if isinstance(base, ast.Name) else None
        if parent is not None and parent.path != module_path("pflow.problems.base"):
            yield from lineage(parent)


def _signature(definition: Definition) -> Signature | None:
    """The signature of a function, or of a class, its own or inherited; None where it takes
    nothing.
    """
    node, path = definition
    if isinstance(node, ast.FunctionDef):
        return Signature(node.args.args, node.args, ast.get_docstring(node) or "", path)
    for ancestor, file in lineage(definition):
        for method in ancestor.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                docstrings = (ast.get_docstring(owner) or "" for owner in (ancestor, method))
                return Signature(method.args.args[1:], method.args, "\n\n".join(docstrings), file)
    return None


def _arguments(signature: Signature) -> list[Argument]:
    arguments, positional = signature.arguments, signature.positional
    missing = len(positional) - len(arguments.defaults)
    pairs = [
        *zip(positional, [*[None] * missing, *arguments.defaults], strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return [
        Argument(node.arg, node.annotation, default, f"{signature.path}, line {node.lineno}")
        for node, default in pairs
    ]


def _field(argument: Argument, description: str) -> tuple[Any, Any]:
    """The type of an argument, and a field with its default, bounds and description."""
    value, annotation = _literal(argument.default), argument.annotation
    declared: dict[str, Any] = {}
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if (
        isinstance(annotation, ast.Subscript)
        and isinstance(annotation.slice, ast.Tuple)
        and _dotted(annotation.value).endswith("Annotated")
    ):
        annotation, *declarations = annotation.slice.elts
        declared = _declared(declarations)
    if annotation is not None:
        kind = _type(annotation)
    else:
        kind = type(value) if type(value) in SCALARS.values() else None
    if kind is None:
        written = (
            f"the type `{ast.unparse(annotation)}`, which a configuration cannot hold"
            if annotation is not None
            else "no type"
        )
        raise PflowError(
            f"{argument.place}: the setting `{argument.name}` has {written}: annotate it with"
            " float, int, bool, str, Path, Literal[...] or a list of these"
        )
    default_in_code = argument.default is not None and value is MISSING
    if default_in_code:  # an expression: only the code knows its value
        kind, value = kind | None, None
    field = setting(**{"description": description, **declared, "default": value})
    metadata = {**field.metadata, "default_in_code": default_in_code}
    return kind, dataclasses.field(default=field.default, metadata=metadata)


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return MISSING
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return MISSING
    return MISSING if isinstance(value, (list, dict, set)) else value


def _type(node: ast.expr) -> Any:
    """The type that an annotation means; None for one that a configuration cannot hold."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = [
            side
            for side in (node.left, node.right)
            if not (isinstance(side, ast.Constant) and side.value is None)
        ]
        kind = _type(sides[0]) if len(sides) == 1 else None
        return kind | None if kind is not None else None
    if not isinstance(node, ast.Subscript):
        return SCALARS.get(_dotted(node))
    outer = _dotted(node.value).rpartition(".")[2]
    inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Literal":
        return Literal[tuple(ast.literal_eval(item) for item in inside)]
    kind = _type(inside[0])
    if kind is None or outer not in (*LISTS, "Optional"):
        return None
    return kind | None if outer == "Optional" else LISTS[outer][kind]


def _declared(metadata: list[ast.expr]) -> dict[str, Any]:
    """Description and bounds of `Annotated[..., setting("...", above=0)]`, those that are given."""
    for call in metadata:
        if isinstance(call, ast.Call) and _dotted(call.func).endswith("setting"):
            given = {k.arg: _literal(k.value) for k in call.keywords if k.arg in BOUNDS}
            if call.args:
                given["description"] = _literal(call.args[0])
            return {name: value for name, value in given.items() if value is not MISSING}
    return {}


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""

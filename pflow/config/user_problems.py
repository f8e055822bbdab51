"""Settings of problems that do not come with pflow: a user's class in a file of their own, and
pairs without any operator.

A user's settings are the arguments of their class, read from its source
(`pflow.provenance.user_code`): a float is a number, a `Literal` a choice, a `Path` a file that must
exist and whose content counts like code. Bounds and a description may be added with `noise_std:
Annotated[float, setting("What it is.", above=0)] = 0.1`.
"""

from __future__ import annotations

import ast
import dataclasses
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pflow.config.decoding import MISSING, TaggedUnion, setting
from pflow.errors import PflowError
from pflow.provenance.modules import module_path
from pflow.provenance.user_code import (
    Definition,
    find_definition,
    outside_fingerprint,
    require_definition,
)

__all__ = ["PairsOnlyProblemSettings", "UserProblemSettings"]

SCALARS = {"float": float, "int": int, "bool": bool, "str": str, "Path": Path, "pathlib.Path": Path}
LISTS = {"list": list, "List": list, "Sequence": list, "tuple": tuple, "Tuple": tuple}
RESERVED = ("module", "name", "code")


@dataclass(frozen=True, kw_only=True)
class UserProblemSettings(TaggedUnion):
    """A problem of your own: a class (or a function that returns a problem) in a Python file
    outside pflow, with its arguments as settings.
    """

    own_key: ClassVar[str] = "module"
    model_shape: ClassVar[None] = None  # known when the class is, in the jobs
    module: Path = setting("The Python file; the path starts in the folder where you run pflow.")
    name: str = setting("The class, a subclass of pflow.problems.Problem, or the function.")
    code: str = setting("Fingerprint of the code and of the files it names; pflow fills it in.", "")

    def __post_init__(self) -> None:
        given = [f.name for f in dataclasses.fields(self) if f.name not in RESERVED]
        files = tuple(
            value for value in (getattr(self, name) for name in given) if isinstance(value, Path)
        )
        found = outside_fingerprint(self.module, files)
        if self.code and self.code.partition("-")[0] != found.partition("-")[0]:
            raise PflowError(
                f"{self.module}, or a file that it uses, was changed after this job was planned"
                f" (code {self.code}, now {found}): run snakemake again"
            )
        object.__setattr__(self, "code", self.code or found)

    @property
    def settings(self) -> dict[str, Any]:
        """What the class is called with; settings that were left out keep the default in the user's
        code.
        """
        fields = [f for f in dataclasses.fields(self) if f.name not in RESERVED]
        return {
            f.name: getattr(self, f.name)
            for f in fields
            if not (f.metadata["unknown"] and getattr(self, f.name) is None)
        }

    @classmethod
    def kind_for(cls, data: dict[str, Any], where: str) -> type:
        """This class with the arguments of the user's class as further fields."""
        path, name = data["module"], data.get("name")
        if not isinstance(path, str) or not isinstance(name, str):
            return cls  # decoding says what is wrong
        if not Path(path).is_file():
            raise PflowError(
                f"`{where}.module` (={path!r}) is not there: {Path(path).absolute()} (paths start"
                " in the folder where you run pflow)"
            )
        found = require_definition(Path(path), name, f"{where}.name")
        return dataclasses.make_dataclass(
            name, _fields(found), bases=(cls,), frozen=True, kw_only=True
        )


@dataclass(frozen=True)
class PairsOnlyProblemSettings(TaggedUnion):
    """No operator is known, only pairs (x, y): amortised posteriors, without weights. What an
    experiment with `pairs` and without `problem` has.
    """

    tag_value: ClassVar[str] = "pairs_only"
    model_shape: list[int] | None = setting("Shape of one x; absent: that of the file.", None)
    data_shape: list[int] | None = setting("Shape of one y; absent: that of the file.", None)
    parameter_names: list[str] | None = setting(
        "A label for each element of x; absent: x1, x2, ...", None
    )
    model_unit: str = setting("Unit of x, for figures and stores.", "1")
    data_unit: str = setting("Unit of y.", "1")


def _fields(found: Definition) -> list[tuple[str, Any, Any]]:
    """(name, type, field) of each argument of a class or a function."""
    node, path = found
    arguments = _signature(node, path)
    if arguments is None:
        return []
    signature, path, skip = arguments
    if signature.vararg or signature.kwarg or signature.posonlyargs:
        raise PflowError(
            f"{path}, line {node.lineno}: `{node.name}` must name its settings one by one: replace"
            " *args, **kwargs and / by arguments"
        )
    positional, fields = signature.args[skip:], []
    defaults = [None] * (len(positional) - len(signature.defaults)) + signature.defaults
    for argument, default in [
        *zip(positional, defaults[-len(positional) :] if positional else [], strict=True),
        *zip(signature.kwonlyargs, signature.kw_defaults, strict=True),
    ]:
        if argument.arg in RESERVED:
            raise PflowError(
                f"{path}, line {argument.lineno}: `{argument.arg}` is taken in a configuration:"
                " give this argument another name"
            )
        fields.append(
            (
                argument.arg,
                *_field(argument.arg, argument.annotation, default, path, argument.lineno),
            )
        )
    return fields


def _signature(
    node: ast.ClassDef | ast.FunctionDef, path: Path
) -> tuple[ast.arguments, Path, int] | None:
    """The arguments of a class, its own or inherited, their file, and how many of them (self) are
    no settings; None where it takes none.
    """
    if isinstance(node, ast.FunctionDef):
        return node.args, path, 0
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return inner.args, path, 1
    for base in node.bases:
        found = find_definition(path, base.id) if isinstance(base, ast.Name) else None
        if found is None or found.path == module_path(
            "pflow.problems.base"
        ):  # Problem itself: its arguments are no settings
            continue
        inherited = _signature(*found)
        if inherited is not None:
            return inherited
    return None


def _field(
    name: str, annotation: ast.expr | None, default: ast.expr | None, path: Path, line: int
) -> tuple[Any, Any]:
    """The type of an argument, and a field with what is known of it."""
    value = _literal(default)
    rules: dict[str, Any] = {}
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.Subscript) and _dotted(annotation.value).endswith("Annotated"):
        annotation, *more = annotation.slice.elts
        rules = _rules(more)
    kind = (
        _type(annotation)
        if annotation is not None
        else type(value)
        if type(value) in SCALARS.values()
        else None
    )
    if kind is None:
        shown = (
            f"the type `{ast.unparse(annotation)}`, which a configuration cannot hold"
            if annotation is not None
            else "no type"
        )
        raise PflowError(
            f"{path}, line {line}: the setting `{name}` has {shown}: annotate it with float, int,"
            " bool, str, Path, Literal[...] or a list of these"
        )
    unknown = default is not None and value is MISSING
    if unknown:  # an expression: the user's code knows its value
        kind, value = kind | None, None
    field = setting(rules.pop("description", f"Argument `{name}`."), value, **rules)
    return kind, dataclasses.field(
        default=field.default, metadata={**field.metadata, "unknown": unknown}
    )


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
        inner = _type(sides[0]) if len(sides) == 1 else None
        return inner | None if inner is not None else None
    if not isinstance(node, ast.Subscript):
        return SCALARS.get(_dotted(node))
    outer = _dotted(node.value).rpartition(".")[2]
    inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if outer == "Literal":
        return Literal[tuple(ast.literal_eval(item) for item in inside)]
    inner = _type(inside[0])
    if inner is None or outer not in (*LISTS, "Optional"):
        return None
    return typing.Optional[inner] if outer == "Optional" else LISTS[outer][inner]


def _rules(parts: list[ast.expr]) -> dict[str, Any]:
    """Description and bounds of `Annotated[..., setting("...", above=0)]`."""
    for call in parts:
        if isinstance(call, ast.Call) and _dotted(call.func).endswith("setting"):
            told = {"description": _literal(call.args[0])} if call.args else {}
            bounds = {
                k.arg: _literal(k.value)
                for k in call.keywords
                if k.arg in ("minimum", "above", "maximum", "below")
            }
            return told | {name: bound for name, bound in bounds.items() if bound is not MISSING}
    return {}


def _dotted(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, (ast.Name, ast.Attribute)) else ""

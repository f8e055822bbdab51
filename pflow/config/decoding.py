"""Strict decoding: plain data (from YAML or JSON) into frozen dataclasses, and every mistake found
in one pass.

The types of the fields define what is valid. `setting(...)` adds bounds and the description of the
key for the schema and the documentation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

from pflow.errors import PflowError
from pflow.settings.declaration import BOUNDS, MISSING, setting
from pflow.settings.suggestion import did_you_mean

__all__ = ["TaggedUnion", "decode", "encode", "key_of", "setting"]


@dataclasses.dataclass(frozen=True)
class TaggedUnion:
    """Mixin for the alternatives of a union: the mapping's key `tag_key` holds `tag_value` and so
    selects the class.

    An alternative with `user_key` is selected by the presence of that key instead, and its settings
    are those of `kind_for(data)`.
    """

    tag_key: typing.ClassVar[str] = "name"
    tag_value: typing.ClassVar[str] = ""
    user_key: typing.ClassVar[str] = ""

    @classmethod
    def kind_for(cls, data: dict[str, Any], where: str) -> type:
        """The dataclass that `data` is decoded into."""
        return cls


def decode(kind: Any, data: Any, where: str) -> Any:
    """`data` as an instance of `kind`, a dataclass.

    Arguments:
        kind: the dataclass, or any type that a field may have.
        data: the data that YAML or JSON contains.
        where: the key's full name, for messages ("experiments.rosenbrock").

    Raises:
        PflowError: one line for each mistake: the rule, the value and the key.
    """
    mistakes: list[str] = []
    value = _decode(kind, data, where, mistakes, {})
    if mistakes:
        raise PflowError("\n".join(mistakes))
    return value


def encode(value: Any) -> Any:
    """The inverse of `decode`: dataclasses to plain dicts (the tag of a union included)."""
    if dataclasses.is_dataclass(value):
        plain = {
            key_of(f): encode(getattr(value, f.name))
            for f in dataclasses.fields(value)
            if not (f.metadata.get("omit_default") and getattr(value, f.name) == f.default)
        }
        if isinstance(value, TaggedUnion) and value.tag_value:
            plain = {value.tag_key: value.tag_value, **plain}
        return plain
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value.as_posix() if isinstance(value, Path) else value


def key_of(field: dataclasses.Field) -> str:
    """The key of a field in YAML: its name, without the underscore that keeps a word of Python
    (`except_`) from being one.
    """
    return field.name.removesuffix("_")


def _decode(kind: Any, data: Any, where: str, mistakes: list[str], rules: dict) -> Any:
    if kind is Any:
        return data
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        options = [a for a in arguments if a is not type(None)]
        if len(options) == 1:
            return _decode(options[0], data, where, mistakes, rules)
        if all(isinstance(o, type) and issubclass(o, TaggedUnion) for o in options):
            return _decode_union(options, data, where, mistakes)
        raise TypeError(f"unsupported union at {where}: {kind}")
    if origin is Literal:
        return _decode_choice(arguments, data, where, mistakes)
    if origin in (list, tuple):
        return _decode_list(arguments[0], data, where, mistakes, rules, as_type=origin)
    if origin is dict:
        if not isinstance(data, dict):
            return _fail(
                mistakes, f"`{where}` (={_show(data)}) must be a mapping of names to settings"
            )
        for key in data:
            if not isinstance(key, str) or not key.replace("_", "").replace("-", "").isalnum():
                _fail(
                    mistakes,
                    f"`{where}` has the name {_show(key)}: use letters, digits, '_' and '-' only,"
                    " as it becomes a folder",
                )
        return {
            str(key): _decode(arguments[1], item, f"{where}.{key}", mistakes, rules)
            for key, item in data.items()
        }
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data, where, mistakes)
    return _decode_scalar(kind, data, where, mistakes, rules)


def _decode_dataclass(
    kind: Any, data: Any, where: str, mistakes: list[str], skip: str | None = None
) -> Any:
    if data is None:
        data = {}
    if isinstance(data, str) and hasattr(kind, "shorthand"):
        data = {kind.shorthand: data}
    if not isinstance(data, dict):
        return _fail(
            mistakes,
            f"`{where}` (={_show(data)}) must be a mapping: write its settings as `key: value`"
            " lines",
        )
    hints, fields = typing.get_type_hints(kind), {key_of(f): f for f in dataclasses.fields(kind)}
    before = len(mistakes)
    for key in data:
        if key not in fields and key != skip:
            names = sorted(fields)
            hint = did_you_mean(key, names, f"known keys: {', '.join(names)}")
            _fail(mistakes, f"`{_join(where, key)}` is not a setting: {hint}")
    values = {}
    for name, f in fields.items():
        if name in data:
            values[f.name] = _decode(
                hints[f.name], data[name], _join(where, name), mistakes, dict(f.metadata)
            )
        elif f.default is MISSING and f.default_factory is MISSING:
            _fail(
                mistakes,
                f"`{_join(where, name)}` is missing:"
                f" {f.metadata.get('description', 'it is required')}",
            )
    return kind(**values) if len(mistakes) == before else None


def _decode_union(options: list, data: Any, where: str, mistakes: list[str]) -> Any:
    key = options[0].tag_key
    choices = {o.tag_value: o for o in options if not o.user_key}
    if not isinstance(data, dict):
        return _fail(mistakes, f"`{where}` (={_show(data)}) must be a mapping with the key `{key}`")
    for option in options:
        if option.user_key and option.user_key in data:
            return _decode_user_class(option, data, where, mistakes)
    if key not in data:
        return _fail(
            mistakes, f"`{_join(where, key)}` is missing: one of {', '.join(sorted(choices))}"
        )
    before = len(mistakes)
    name = _decode_choice(tuple(choices), data[key], _join(where, key), mistakes)
    return (
        _decode_dataclass(choices[name], data, where, mistakes, skip=key)
        if len(mistakes) == before
        else None
    )


def _decode_user_class(
    option: type[TaggedUnion], data: dict, where: str, mistakes: list[str]
) -> Any:
    try:
        return _decode_dataclass(option.kind_for(data, where), data, where, mistakes)
    except PflowError as error:  # the value of the key is itself invalid
        return _fail(mistakes, str(error))


def _decode_choice(choices: tuple, data: Any, where: str, mistakes: list[str]) -> Any:
    if data in choices and type(data) in {type(c) for c in choices}:
        return data
    hint = did_you_mean(data, choices)
    allowed = ", ".join(str(c) for c in choices)
    return _fail(
        mistakes,
        f"`{where}` (={_show(data)}) must be one of {allowed}" + (f": {hint}" if hint else ""),
    )


def _decode_list(
    kind: Any, data: Any, where: str, mistakes: list[str], rules: dict, as_type: type
) -> Any:
    if not isinstance(data, (list, tuple)):
        example = "[a, b]" if kind is str else "[0, 1, 2]"
        return _fail(mistakes, f"`{where}` (={_show(data)}) must be a list, such as {example}")
    return as_type(
        _decode(kind, item, f"{where}[{i}]", mistakes, rules) for i, item in enumerate(data)
    )


def _decode_scalar(kind: type, data: Any, where: str, mistakes: list[str], rules: dict) -> Any:
    value = data
    if kind is float:
        if isinstance(data, str):  # YAML 1.1 reads 1e-3 as a string
            try:
                value = float(data)
            except ValueError:
                return _fail(mistakes, f"`{where}` (={_show(data)}) must be a number")
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not math.isfinite(value)
        ):
            return _fail(mistakes, f"`{where}` (={_show(data)}) must be a finite number")
        value = float(value)
    elif kind is int:
        if isinstance(data, str) or (isinstance(data, float) and data.is_integer()):
            with contextlib.suppress(ValueError):  # accept 1e4 and "5000" as whole numbers
                value = int(float(data)) if float(data).is_integer() else data
        if isinstance(value, bool) or not isinstance(value, int):
            return _fail(mistakes, f"`{where}` (={_show(data)}) must be a whole number")
    elif kind in (bool, str):
        if not isinstance(data, kind):
            expected = "true or false" if kind is bool else "text"
            return _fail(mistakes, f"`{where}` (={_show(data)}) must be {expected}")
    elif kind is Path:
        if not isinstance(data, (str, Path)):
            return _fail(mistakes, f"`{where}` (={_show(data)}) must be the path of a file")
        value = Path(data)
        if not value.exists():
            return _fail(
                mistakes,
                f"`{where}` (={_show(str(data))}) is not there: {value.absolute()} (paths start in"
                " the folder where you run pflow)",
            )
    else:
        raise TypeError(f"unsupported type at {where}: {kind}")
    return _check_bounds(value, where, mistakes, rules)


def _check_bounds(value: Any, where: str, mistakes: list[str], rules: dict) -> Any:
    for name, kind in BOUNDS.items():
        bound = rules.get(name)
        if bound is not None and not kind.holds(value, bound):
            rule = "positive" if name == "above" and bound == 0 else f"{kind.words} {bound}"
            return _fail(
                mistakes,
                f"`{where.rsplit('.', 1)[-1]}` (={_show(value)}) must be {rule}: set {where}",
            )
    return value


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _show(data: Any) -> str:
    text = (
        str(data) if isinstance(data, (int, float)) and not isinstance(data, bool) else repr(data)
    )
    return text if len(text) <= 60 else text[:57] + "..."


def _fail(mistakes: list[str], message: str) -> None:
    mistakes.append(message)

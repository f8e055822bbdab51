"""docs/configuration.md, generated from the settings classes: `python -m pflow.config.schema
--markdown > docs/configuration.md`.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

from pflow.config.decoding import MISSING, encode, key_of
from pflow.config.experiment import Configuration

__all__ = ["page"]

INTRODUCTION = """# Configuration

Generated from the settings classes by `python -m pflow.config.schema --markdown > docs/configuration.md`; a test holds it equal.

A configuration is a YAML file: `config.yaml` for `snakemake`, any file for `python -m pflow run FILE`. Omitted keys have the defaults below. A misspelt key, a
wrong type and an impossible value stop everything before anything runs, each with one line that names the key, the rule and the nearest valid name.
Numbers may be written as `1e-3` or `5e3`. Paths start in the folder where you run. `snakemake --configfile CHANGES.yaml` overrides
`config.yaml` key by key.
"""
NAMES = {
    float: "number",
    int: "whole number",
    bool: "true / false",
    str: "text",
    Path: "path",
    Any: "any value",
}
SIGNS = {"minimum": "≥", "above": ">", "maximum": "≤", "below": "<"}


def page() -> str:
    """The whole page."""
    sections = [INTRODUCTION.rstrip()]
    waiting: list[tuple[str, Any]] = [("the file", Configuration)]
    seen: set[Any] = set()
    while waiting:
        title, kind = waiting.pop(0)
        options = _dataclasses(kind)
        sections.append(
            f"## {title[0].upper()}{title[1:]}" if title == "the file" else f"## `{title}`"
        )
        if len(options) > 1:
            tag = options[0].tag_key
            sections.append(
                f"Chosen by `{tag}`:"
                f" {', '.join(f'`{o.tag_value}`' for o in options if o.tag_value)}"
                + _user_keys(options)
                + "."
            )
        for option in options:
            if len(options) > 1:
                sections.append(
                    f"### `{option.tag_key}: {option.tag_value}`"
                    if option.tag_value
                    else f"### With `{option.user_key}`"
                )
            sections += [_text(option), _table(option)]
            for name, hint in _fields(option):
                nested = _dataclasses(hint)
                if nested and tuple(nested) not in seen:
                    seen.add(tuple(nested))
                    place = f"{title}.{name}" if title != "the file" else name
                    waiting.append(
                        (
                            place.replace("experiments.<name>.", "")
                            + (".<name>" if typing.get_origin(hint) is dict else ""),
                            hint,
                        )
                    )
    return "\n\n".join(sections) + "\n"


def _user_keys(options: list[Any]) -> str:
    keys = [o.user_key for o in options if getattr(o, "user_key", "")]
    return (
        "; or, with the key " + " or ".join(f"`{key}`" for key in keys) + ", your own"
        if keys
        else ""
    )


def _text(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def _fields(kind: Any) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(kind)
    return [(key_of(field), hints[field.name]) for field in dataclasses.fields(kind)]


def _table(kind: Any) -> str:
    hints = typing.get_type_hints(kind)
    rows = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        cells = (
            f"`{key_of(field)}`",
            f"{_takes(hints[field.name])}{_bounds(field.metadata)}",
            _default(field),
            field.metadata["description"],
        )
        rows.append(
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
        )
    return "\n".join(rows) if len(rows) > 2 else "No settings."


def _takes(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        rest = [a for a in arguments if a is not type(None)]
        return _takes(rest[0]) if len(rest) == 1 else "see below"
    if origin is Literal:
        return " / ".join(f"`{a}`" for a in arguments)
    if origin in (list, tuple):
        return f"list: {_takes(arguments[0])}"
    if origin is dict:
        return f"names: {_takes(arguments[1])}"
    if dataclasses.is_dataclass(hint):
        return "path, or see below" if hasattr(hint, "shorthand") else "see below"
    return NAMES[hint]


def _bounds(rules: Any) -> str:
    bounds = [
        f"{sign} {rules[name]:g}" for name, sign in SIGNS.items() if rules.get(name) is not None
    ]
    return f", {', '.join(bounds)}" if bounds else ""


def _default(field: Any) -> str:
    if field.default is not MISSING:
        value = field.default
    elif field.default_factory is not MISSING:
        value = field.default_factory()
        if dataclasses.is_dataclass(value):
            return ""
        value = encode(value)
    else:
        return "**required**"
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _dataclasses(hint: Any) -> list[Any]:
    """The dataclasses in a type: itself, the members of a union, the values of a mapping."""
    if dataclasses.is_dataclass(hint):
        return [hint]
    return [kind for argument in typing.get_args(hint) for kind in _dataclasses(argument)]

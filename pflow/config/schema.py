"""The JSON schema of `config.yaml`, generated from the settings classes: `python -m
pflow.config.schema > workflow/schemas/config.schema.json`.

Editors use it for completion and descriptions; Snakemake's run is checked against the same classes
by `pflow.config.loading`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

from pflow.config.decoding import MISSING, encode, key_of
from pflow.config.experiment import Configuration

__all__ = ["schema"]

BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "above": "exclusiveMinimum",
    "below": "exclusiveMaximum",
}


def schema() -> dict[str, Any]:
    """The schema of the whole configuration, in JSON Schema draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration of pflow",
        **_of(Configuration),
    }


def _of(kind: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        options = [a for a in arguments if a is not type(None)]
        nullable = [{"type": "null"}] if len(options) < len(arguments) else []
        described = [_of(option) for option in options]
        return (
            described[0]
            if len(described) == 1 and not nullable
            else {"anyOf": [*described, *nullable]}
        )
    if kind is Any:
        return {}
    if kind is Path:
        return {"type": "string"}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (list, tuple):
        return {"type": "array", "items": _of(arguments[0])}
    if origin is dict:
        return {
            "type": "object",
            "additionalProperties": _of(arguments[1]),
            "propertyNames": {"pattern": "^[A-Za-z0-9_-]+$"},
        }
    if dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    # YAML 1.1 reads 1e-3 as text; the decoder converts it to a number.
    number = {"type": ["number", "string"]}
    scalars: dict[Any, dict[str, Any]] = {
        float: number,
        int: {"type": ["integer", "string"]},
        bool: {"type": "boolean"},
        str: {"type": "string"},
    }
    return scalars[kind]


def _of_dataclass(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    properties, required = {}, []
    if tag := getattr(kind, "tag_value", None):
        properties[kind.tag_key] = {"const": tag, "description": f"Selects: {_first_line(kind)}"}
        required.append(kind.tag_key)
    for field in dataclasses.fields(kind):
        described = {**_of(hints[field.name]), "description": field.metadata["description"]}
        described |= {
            BOUNDS[name]: field.metadata[name]
            for name in BOUNDS
            if field.metadata.get(name) is not None
        }
        if field.default is not MISSING:
            described["default"] = field.default
        elif field.default_factory is not MISSING:
            described["default"] = encode(field.default_factory())
        else:
            required.append(key_of(field))
        properties[key_of(field)] = described
    further = bool(
        getattr(kind, "user_key", "")
    )  # a user's class has settings that the schema cannot know
    described = {
        "type": "object",
        "description": _first_line(kind),
        "properties": properties,
        "additionalProperties": further,
    }
    described |= {"required": required} if required else {}
    return {"anyOf": [described, {"type": "string"}]} if hasattr(kind, "shorthand") else described


def _first_line(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


if __name__ == "__main__":
    if sys.argv[1:] == ["--markdown"]:
        from pflow.config.reference_page import page

        sys.stdout.write(page())
    else:
        print(json.dumps(schema(), indent=2))

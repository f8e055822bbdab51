"""Settings and values of JSON files as the page prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pflow.report.numbers import Cell, is_number, over_seeds

__all__ = ["named", "plain_settings", "single"]


def named(entries: Any) -> dict[str, Any]:
    """Names with settings, from a mapping, a list of names, or a list of settings that hold their
    name.
    """
    if isinstance(entries, Mapping):
        return {str(name): entry or {} for name, entry in entries.items()}
    return {
        str(entry["name"]) if isinstance(entry, Mapping) else str(entry): (
            entry if isinstance(entry, Mapping) else {}
        )
        for entry in entries
    }


def plain_settings(entry: Mapping[str, Any]) -> dict[str, str]:
    """Settings as text, without those that are not set."""
    shown = {key: value for key, value in entry.items() if value is not None and value != ""}
    return {
        key.replace("_", " "): (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        )
        for key, value in shown.items()
    }


def single(value: Any) -> Cell:
    """One value of a JSON file: a number to three digits, anything else as it is, and a dash for
    nothing.
    """
    if is_number(value):
        return over_seeds([value])
    if value is None:
        return Cell(None)
    return Cell(None, text=value if isinstance(value, str) else json.dumps(value), why="")

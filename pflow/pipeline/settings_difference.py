"""How two settings of a job differ, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["settings_difference"]

NAMED = 3
LONGEST = 40  # characters of a value


def settings_difference(old: str, new: str) -> str:
    """`problem.noise_std 0.4 -> 0.8, ...`, from two settings texts."""
    different = [*_differences(json.loads(old), json.loads(new), "")]
    more = len(different) - NAMED
    return ", ".join([*different[:NAMED], *([f"and {more} more"] if more > 0 else [])])


def _differences(old: Any, new: Any, place: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            path = f"{place}.{key}" if place else key
            yield from _differences(old.get(key), new.get(key), path)
    elif old != new:
        yield f"{place} {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."

"""The declaration of one setting: what it means, its default and its bounds."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["BOUNDS", "MISSING", "setting"]

MISSING = dataclasses.MISSING


class Bound(NamedTuple):
    """One kind of bound of a number."""

    holds: Callable[[float, float], bool]
    words: str


BOUNDS = {
    "minimum": Bound(operator.ge, "at least"),
    "above": Bound(operator.gt, "greater than"),
    "maximum": Bound(operator.le, "at most"),
    "below": Bound(operator.lt, "less than"),
}


def setting(
    description: str = "",
    default: Any = MISSING,
    *,
    factory: Any = MISSING,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    omit_default: bool = False,
) -> Any:
    """A documented field of a settings class: `minimum` <= value <= `maximum`, `above` < value <
    `below`.

    Also `Annotated[float, setting(above=0)]` in the signature of a problem; there the class
    docstring describes the argument, and the signature holds its default.

    With `omit_default` the text of a job's settings leaves the field out where it has its default,
    so that results from before the setting existed stay valid.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "below": below,
        "omit_default": omit_default,
    }
    return dataclasses.field(default=default, default_factory=factory, metadata=metadata)

"""The declaration of one setting: what it means, its default and its bounds."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["MISSING", "setting"]

MISSING = dataclasses.MISSING


def setting(
    description: str = "",
    default: Any = MISSING,
    *,
    factory: Any = MISSING,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> Any:
    """A documented field of a settings class: `minimum` <= value <= `maximum`, `above` < value <
    `below`.

    Also `Annotated[float, setting(above=0)]` in the signature of a problem; there the class
    docstring describes the argument, and the signature holds its default.
    """
    metadata = {
        "description": description,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "below": below,
    }
    return dataclasses.field(default=default, default_factory=factory, metadata=metadata)

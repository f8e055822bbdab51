"""Formatting of numbers: few digits, minus signs, a median with its range over seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["Cell", "format_number", "is_number", "over_seeds"]

MINUS = "\N{MINUS SIGN}"
THIN_SPACE = "\N{NARROW NO-BREAK SPACE}"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    `value` is exact (the page carries it for sorting and copying), `text` is rounded for reading,
    `spread` is the range over seeds as text, empty for a single seed. Without a value, `why` gives
    the reason for the dash.
    """

    value: float | int | None
    text: str = "\N{EN DASH}"
    spread: str = ""
    why: str = "not applicable"


def is_number(value: Any) -> bool:
    """Whether `value` is an int or a float; truth values are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def over_seeds(values: Iterable[Any], digits: int = 3, missing: str = "not applicable") -> Cell:
    """Median over seeds, with the range; `values` that are not numbers are left out.

    If a value is not finite, the cell says so, because a median would hide the failure.
    """
    numbers = [value for value in values if is_number(value)]
    if not numbers:
        return Cell(None, why=missing)
    if not all(map(math.isfinite, numbers)):
        return Cell(None, text="not finite", why="NaN or infinity in at least one seed")
    low, high = format_number(min(numbers), digits), format_number(max(numbers), digits)
    middle = median(numbers)
    return Cell(middle, format_number(middle, digits), "" if low == high else f"{low} to {high}")


def format_number(value: float | int, digits: int = 3) -> str:
    r"""`value` with `digits` significant digits; whole numbers in full; very large or small ones as
    3.1 × 10⁻⁵.

    >>> format_number(5120), format_number(0.012345, 2), format_number(-3.14159)
    ('5\u202f120', '0.012', '−3.14')
    >>> format_number(2.5e-7, 2)
    '2.5 × 10⁻⁷'
    """
    if not math.isfinite(value):
        return "not finite"
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}".replace(",", THIN_SPACE).replace("-", MINUS)
    exponent = int(
        f"{value:.{digits - 1}e}".split("e")[1]
    )  # of the rounded value: 0.0996 with one digit is 0.1
    if not -4 <= exponent < 6:
        mantissa = f"{value / 10.0**exponent:.{digits - 1}f}".replace("-", MINUS)
        return f"{mantissa} × 10{str(exponent).translate(SUPERSCRIPTS)}"
    text = f"{value:,.{max(0, digits - 1 - exponent)}f}"
    return text.replace(",", THIN_SPACE).replace("-", MINUS)

"""Rules for the settings of problems; each error says the rule, the value and the way out."""

from __future__ import annotations

import math
from numbers import Integral, Real

from pflow.errors import PflowError

__all__ = ["finite_number", "positive_number", "whole_number"]


def finite_number(setting: str, value: float) -> float:
    """`value` as a float, if it is a finite number."""
    if not _is(Real, value) or not math.isfinite(value):
        raise _broken(setting, value, "a finite number")
    return float(value)


def positive_number(setting: str, value: float) -> float:
    """`value` as a float, if it is a finite number above zero."""
    if not _is(Real, value) or not math.isfinite(value) or value <= 0:
        raise _broken(setting, value, "a positive number")
    return float(value)


def whole_number(setting: str, value: int, minimum: int, maximum: int) -> int:
    """`value` as an int, if it is a whole number from `minimum` to `maximum`."""
    if not _is(Integral, value) or not minimum <= value <= maximum:
        raise _broken(setting, value, f"a whole number from {minimum} to {maximum}")
    return int(value)


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)  # In Python, True is a number.


def _broken(setting: str, value: object, rule: str) -> PflowError:
    return PflowError(
        f"`problem.{setting}` (={value!r}) must be {rule}: correct `problem.{setting}`, or leave it"
        " out for the default"
    )

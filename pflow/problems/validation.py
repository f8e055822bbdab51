"""Rules for the settings of problems; each error says the rule, the value and the way out."""

from __future__ import annotations

import functools
import inspect
import math
import typing
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

from pflow.errors import PflowError
from pflow.settings.declaration import BOUNDS

__all__ = ["checked_settings", "finite_number", "positive_number", "whole_number"]


def checked_settings(init: Callable[..., None]) -> Callable[..., None]:
    """`__init__` of a problem, whose numbers must be as its signature declares them: int or float,
    with the bounds of `Annotated[int, setting(minimum=1)]`.

    Raises:
        PflowError: when called with another value.
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs)
        declared = typing.get_type_hints(init, include_extras=True)
        for name, value in given.arguments.items():
            given.arguments[name] = _as_declared(name, value, declared.get(name))
        init(*given.args, **given.kwargs)

    return checked


def _as_declared(setting: str, value: Any, declared: Any) -> Any:
    """`value`, if the declaration of the setting allows it."""
    kind, *metadata = (
        typing.get_args(declared) if hasattr(declared, "__metadata__") else (declared,)
    )
    bounds = {name: metadata[0].metadata[name] for name in BOUNDS} if metadata else {}
    if kind is int:
        return whole_number(setting, value, bounds.get("minimum"), bounds.get("maximum"))
    if kind is float:
        return finite_number(setting, value, **bounds)
    return value


def finite_number(setting: str, value: float, **bounds: float | None) -> float:
    """`value` as a float, if it is a finite number within the bounds: `minimum` <= value <=
    `maximum`, `above` < value < `below`.
    """
    stated = {name: bound for name, bound in bounds.items() if bound is not None}
    words = " and ".join(f"{BOUNDS[name].words} {bound}" for name, bound in stated.items())
    rule = "a positive number" if stated == {"above": 0} else f"a finite number {words}".rstrip()
    if (
        not _is(Real, value)
        or not math.isfinite(value)
        or not all(BOUNDS[name].holds(value, bound) for name, bound in stated.items())
    ):
        raise _broken(setting, value, rule)
    return float(value)


def positive_number(setting: str, value: float) -> float:
    """`value` as a float, if it is a finite number above zero."""
    return finite_number(setting, value, above=0)


def whole_number(
    setting: str, value: int, minimum: int | None = None, maximum: int | None = None
) -> int:
    """`value` as an int, if it is a whole number from `minimum` to `maximum`, where these exist."""
    bounds = ((" from", minimum), (" to", maximum))
    rule = "a whole number" + "".join(f"{w} {n}" for w, n in bounds if n is not None)
    if (
        not _is(Integral, value)
        or (minimum is not None and value < minimum)
        or (maximum is not None and value > maximum)
    ):
        raise _broken(setting, value, rule)
    return int(value)


def _is(kind: type, value: object) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)  # In Python, True is a number.


def _broken(setting: str, value: object, rule: str) -> PflowError:
    return PflowError(
        f"`problem.{setting}` (={value!r}) must be {rule}: correct `problem.{setting}`, or leave it"
        " out for the default"
    )

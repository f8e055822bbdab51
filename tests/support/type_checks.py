"""The run-time checker of declared shapes: beartype, for jaxtyping's import hook.

Arrays alone are checked: what else a signature declares, tests break on purpose, to see what the
code says about wrong settings, or meet with small stand-ins.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import UnionType
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray, config

__all__ = ["checked", "unchecked"]


def checked(function: Callable) -> Callable:
    """`function`, whose declared arrays are checked whenever it is called."""
    annotations = function.__annotations__
    function.__annotations__ = {
        name: declared if _is_array(declared) else Any for name, declared in annotations.items()
    }
    return beartype(function)


@contextmanager
def unchecked() -> Iterator[None]:
    """Without the check: to see what code says itself about another shape."""
    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", before)


def _is_array(declared: Any) -> bool:
    if isinstance(declared, type) and issubclass(declared, AbstractArray):
        return True
    parts = typing.get_args(declared)
    together = typing.get_origin(declared) in (typing.Union, UnionType, tuple)
    return together and any(_is_array(part) for part in parts)

"""The run-time type checker of the tests: beartype, for jaxtyping's import hook.

PEP 484's numeric tower holds: where `float` is declared an `int` is accepted, as type checkers do.
"""

from __future__ import annotations

from beartype import BeartypeConf, beartype

__all__ = ["checked"]

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

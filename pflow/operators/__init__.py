"""Forward operators F, and the checks that one must pass before anything is trained on it."""

from __future__ import annotations

from pflow.operators.base import Operator
from pflow.operators.checks import check_operator
from pflow.operators.composed import ComposedOperator
from pflow.operators.constant import Constant
from pflow.operators.linear import (
    IdentityOperator,
    MatrixOperator,
    dense_matrix,
    unit_spectral_norm,
)

__all__ = [
    "ComposedOperator",
    "Constant",
    "IdentityOperator",
    "MatrixOperator",
    "Operator",
    "check_operator",
    "dense_matrix",
    "unit_spectral_norm",
]

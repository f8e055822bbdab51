"""Pairs (x, y) without an operator: shapes, names and units, and errors for everything that needs
F.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor

from pflow.errors import PflowError
from pflow.operators import Operator
from pflow.problems.base import Problem

__all__ = ["DataOnly"]


class UnknownOperator(Operator):
    """An operator of which only the shapes are known."""

    def forward(self, x: Tensor) -> NoReturn:
        raise PflowError(
            "an experiment of pairs alone has no operator to evaluate: use methods with `objective:"
            " none`, or give a `problem` with one"
        )


class DataOnly(Problem):
    """The problem of an experiment that has pairs alone.

    Arguments:
        model_shape, data_shape: of one x and one y.
        parameter_names: a label for each element of x; absent: x1, x2, ...
        model_unit, data_unit: units of x and y.

    Raises:
        PflowError: the number of labels is not that of the parameters.
    """

    name = "pairs_only"

    def __init__(
        self,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        parameter_names: Sequence[str] | None = None,
        model_unit: str = "1",
        data_unit: str = "1",
    ) -> None:
        self.low_fidelity = self.high_fidelity = UnknownOperator(model_shape, data_shape)
        self.noise = self.noise_std = None
        self.model_unit, self.data_unit = model_unit, data_unit
        size = math.prod(model_shape)
        self.parameter_names = tuple(parameter_names or (f"x{i + 1}" for i in range(size)))
        if len(self.parameter_names) != size:
            raise PflowError(
                f"`problem.parameter_names` must have one name for each of the {size} parameters,"
                f" and has {len(self.parameter_names)}"
            )

    def sample_prior(
        self, n: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
    ) -> NoReturn:
        raise PflowError(
            "an experiment of pairs alone has no prior to draw from: give a `problem` with one"
        )

    def log_prior(self, x: Tensor) -> NoReturn:
        raise PflowError(
            "an experiment of pairs alone has no prior density: give a `problem` with one"
        )

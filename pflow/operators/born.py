"""Waves to first order: single scattering at a homogeneous background."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from pflow.operators.base import Operator
from pflow.operators.constant import Constant
from pflow.operators.waves import DeepwaveOperator

__all__ = ["BornWaves"]

AT_ONCE = 64  # columns of the Jacobian in one call of deepwave


class BornWaves(Operator):
    r"""The Born approximation :math:`y = F(v_0) + J x` of recordings in a medium of velocity
    :math:`v_0 e^x`, with :math:`J = dF/dx` at x = 0.

    J is a dense matrix, computed once when it is first needed (one simulation of scattered waves
    for each cell); after that, data cost a product with it.

    Arguments:
        waves: F, of velocities.
        velocity: the background v0.
    """

    def __init__(self, waves: DeepwaveOperator, velocity: float) -> None:
        super().__init__((math.prod(waves.model_shape),), waves.data_shape)
        self._waves, self._velocity = waves, velocity

    def forward(
        self, x: Float[Tensor, "batch cells"]
    ) -> Float[Tensor, "batch shots receivers times"]:
        return self.background.like(x) + (x @ self.jacobian.like(x)).view(-1, *self.data_shape)

    def vjp(
        self, x: Float[Tensor, "batch cells"], v: Float[Tensor, "batch shots receivers times"]
    ) -> Float[Tensor, "batch cells"]:
        return v.flatten(1) @ self.jacobian.like(v).T

    @cached_property
    def background(self) -> Constant:
        """F(v0)."""
        with torch.no_grad():
            return Constant(self._waves(self._homogeneous)[0])

    @cached_property
    def jacobian(self) -> Constant:
        """J, transposed: (cells, data)."""
        cells = self._velocity * torch.eye(self.model_shape[0]).view(-1, *self._waves.model_shape)
        with torch.no_grad():
            return Constant(
                torch.cat(
                    [
                        self._waves.born(self._homogeneous, part).flatten(1)
                        for part in cells.split(AT_ONCE)
                    ]
                )
            )

    @property
    def _homogeneous(self) -> Float[Tensor, "1 1 height width"]:
        return torch.full((1, *self._waves.model_shape), self._velocity)

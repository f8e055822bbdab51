"""A flow that ignores the data: a density of x alone, for instance a prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pflow.flows.base import Flow, as_flow

__all__ = ["Unconditional"]


class Unconditional(Flow):
    r"""The map :math:`z = T(x; 0)` of a conditional flow T, for every y.

    Arguments:
        model_shape: shape of x.
        data_shape: shape of the y that is ignored.
        base: T, as arguments of `build_flow`, or built.

    Example:
        >>> shapes = {"model_shape": (2,), "data_shape": (1,)}
        >>> base = {"name": "coupling", **shapes, "depth": 2, "hidden": 8}
        >>> flow = Unconditional((2,), (5,), base=base)
        >>> flow.sample(torch.zeros(1, 5), 3).shape
        torch.Size([3, 2])
    """

    def __init__(
        self, model_shape: Sequence[int], data_shape: Sequence[int], base: Mapping[str, Any] | Flow
    ) -> None:
        super().__init__(model_shape, data_shape)
        self.base = as_flow(base)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(x, y)
        return self.base(x, self._nothing(x))

    def inverse(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        self._check(z, y)
        return self.base.inverse(z, self._nothing(z))

    @torch.no_grad()
    def initialise(self, x: Tensor, y: Tensor) -> None:
        if self.initialised:
            return
        self._check_pairs(x, y)
        signs = x.new_ones(len(x), *self.base.data_shape)
        signs[
            ::2
        ] = (
            -1.0
        )  # of mean 0 and variance 1, so that the base's normalisation of its data is the identity
        self.base.initialise(x, signs)
        self.initialised.fill_(True)

    def _nothing(self, like: Tensor) -> Tensor:
        return like.new_zeros(1, *self.base.data_shape)

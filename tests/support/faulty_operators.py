"""Operators with a fault, for tests of what bad input gets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pflow.operators import Operator

__all__ = ["AnyFunction", "Faulty"]


class AnyFunction(Operator):
    """F x = f(x) in the shapes of another operator."""

    def __init__(self, like: Operator, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(like.model_shape, like.data_shape)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Faulty(Operator):
    """Another linear operator with a fault: NaN where x_1 is above a limit, or scores that are
    wrong (`sign`, `noise` of 10 %).
    """

    linear = True

    def __init__(self, inner: Operator, fault: str, limit: float) -> None:
        super().__init__(inner.model_shape, inner.data_shape)
        self.inner, self.fault, self.limit = inner, fault, limit

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return torch.where(x[:, :1] > self.limit, torch.nan, y) if self.fault == "NaN" else y

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        gradient = self.inner.adjoint(v)
        noise = {"sign": -2.0, "noise": 0.1 * torch.sin(1e4 * x)}.get(self.fault, 0.0)
        return gradient * (1 + noise)

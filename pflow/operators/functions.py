"""Operators from existing torch code: functions, modules, and objects with `A` and `A_adjoint`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pflow.errors import PflowError
from pflow.operators.base import Operator

__all__ = ["ModuleOperator", "PhysicsOperator", "TorchOperator"]


class TorchOperator(Operator):
    """A function in torch; autograd gives the gradient, and the adjoint where the function is
    linear.

    Arguments:
        function: x (batch, *model) -> F(x) (batch, *data), in the dtype and on the device of x.
            Complex results become real, with a last axis (real, imaginary).
        model_shape: shape of one x.
        data_shape: shape of one F(x); of complex data with the last axis of size 2.
        linear: whether F(a x + b x') = a F(x) + b F(x').
        valid: x -> (batch,) booleans, where F is not defined for every x.

    Example:
        >>> F = TorchOperator(lambda x: x.cumsum(1), (3,), (3,), linear=True)
        >>> F(torch.ones(1, 3)), F.adjoint(torch.ones(1, 3))
        (tensor([[1., 2., 3.]]), tensor([[3., 2., 1.]]))
    """

    def __init__(
        self,
        function: Callable[[Float[Tensor, "batch *model"]], Tensor],
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        linear: bool = False,
        valid: Callable[[Float[Tensor, "batch *model"]], Bool[Tensor, " batch"]] | None = None,
    ) -> None:
        super().__init__(model_shape, data_shape)
        self.function, self.linear, self.valid = function, linear, valid

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        return _real(self.function(x))


class ModuleOperator(Operator):
    """A `torch.nn.Module` as it is: its weights are fixed, and it is in evaluation mode.

    Arguments:
        module: the module; copied, so that later training of it has no effect, and once for each
            dtype and device it is used in.
        model_shape: shape of one x.
        data_shape: shape of one F(x), as for `TorchOperator`.
        linear: whether F is linear, as for `TorchOperator`.

    Example:
        >>> F = ModuleOperator(nn.Flatten(), (1, 2, 2), (4,), linear=True)
        >>> F(torch.ones(1, 1, 2, 2))
        tensor([[1., 1., 1., 1.]])
    """

    def __init__(
        self,
        module: nn.Module,
        model_shape: Sequence[int],
        data_shape: Sequence[int],
        linear: bool = False,
    ) -> None:
        super().__init__(model_shape, data_shape)
        self.linear = linear
        self._module = copy.deepcopy(module).eval().requires_grad_(False)
        self._copies: dict[tuple[torch.dtype, torch.device], nn.Module] = {}

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        key = (x.dtype, x.device)
        if key not in self._copies:
            self._copies[key] = copy.deepcopy(self._module).to(dtype=x.dtype, device=x.device)
        return _real(self._copies[key](x))


class PhysicsOperator(Operator):
    """An object with the methods of deepinv's physics: `A(x)`, and `A_adjoint(y)` of a linear one
    or `A_vjp(x, v)` of another.

    Without the last two, autograd differentiates `A`.

    Arguments:
        physics: the object; batch first.
        model_shape: shape of one x.
        data_shape: shape of one A(x).

    Raises:
        PflowError: if there is no method `A`.
    """

    def __init__(self, physics: Any, model_shape: Sequence[int], data_shape: Sequence[int]) -> None:
        super().__init__(model_shape, data_shape)
        if not callable(getattr(physics, "A", None)):
            raise PflowError(
                f"{type(physics).__name__} must have a method `A(x)`, and has none: pass an object"
                " with one, or use TorchOperator"
            )
        self.physics, self.linear = physics, hasattr(physics, "A_adjoint")

    @property
    def _has_own_vjp(self) -> bool:
        return self.linear or hasattr(self.physics, "A_vjp")

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        return self.physics.A(x)

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        if self.linear:
            return self.physics.A_adjoint(v)
        return self.physics.A_vjp(x, v) if self._has_own_vjp else super().vjp(x, v)


def _real(y: Tensor) -> Tensor:
    """Complex numbers as a last axis (real, imaginary)."""
    return torch.view_as_real(y) if y.is_complex() else y

r"""Forward operators.

An operator is a map :math:`F: x \mapsto y` from models to noise-free data, applied to a whole batch at once. What follows needs
its Jacobian :math:`J(x) = dF/dx` only through products with :math:`J(x)^\top`, the *gradient* of F.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pflow.errors import PflowError

__all__ = ["Operator"]


class _ForwardWithVjp(torch.autograd.Function):
    """F(x) for autograd, with the operator's own `vjp` as its backward."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, operator: Operator) -> Tensor:
        ctx.save_for_backward(x)
        ctx.operator = operator
        return operator.forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, v: Tensor) -> tuple[Tensor, None]:
        return ctx.operator.vjp(*ctx.saved_tensors, v), None


class Operator(ABC):
    r"""The map :math:`y = F(x)`, batch first.

    A subclass writes `forward` in torch and has its gradient from autograd; it overrides `vjp` where it knows a better way, and
    `adjoint` (with `linear = True`) where F is a matrix. It computes in the dtype and on the device of its input, and leaves
    the input unchanged; `pflow.operators.check_operator` tests all of this.

    Arguments:
        model_shape: the shape of one model x.
        data_shape: the shape of the data F(x) of one model.
    """

    linear: bool = False

    def __init__(self, model_shape: Sequence[int], data_shape: Sequence[int]) -> None:
        self.model_shape = tuple(model_shape)
        self.data_shape = tuple(data_shape)

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        """F(x) for each x of the batch."""

    def __call__(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        """F(x), differentiable once by whichever gradient the operator has: its own `vjp`, or autograd through `forward`."""
        if type(self).vjp is Operator.vjp or not (torch.is_grad_enabled() and x.requires_grad):
            return self.forward(x)
        return _ForwardWithVjp.apply(x, self)

    def vjp(self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *model"]:
        r"""The vector-Jacobian product :math:`J(x)^\top v`, by autograd through `forward`.

        Raises:
            PflowError: if `forward` leaves torch, so that autograd cannot follow it from y back to x.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self.forward(x)
            gradient = torch.autograd.grad(y, x, v, allow_unused=True)[0] if y.requires_grad else None
        if gradient is None:
            raise PflowError(
                f"`{type(self).__name__}.forward` must be differentiable, and autograd finds no path from its result back to x: "
                "compute in torch without .detach(), .numpy() or .item(), or define `vjp(x, v)`"
            )
        return gradient

    def adjoint(self, v: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *model"]:
        r"""The adjoint :math:`F^\top v` of a linear operator, by default its gradient at x = 0.

        Raises:
            PflowError: if the operator is not linear.
        """
        if not self.linear:
            raise PflowError(
                f"only a linear operator has an adjoint, and `{type(self).__name__}.linear` is False: use `vjp(x, v)`"
            )
        return self.vjp(v.new_zeros(len(v), *self.model_shape), v)

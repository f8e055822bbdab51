r"""Forward operators.

An operator is a map :math:`F: x \mapsto y` from models to noise-free data, applied to a whole batch
at once. What follows needs its Jacobian :math:`J(x) = dF/dx` only through products with
:math:`J(x)^\top`, the *gradient* of F.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from pflow.errors import PflowError

__all__ = ["Operator"]


class _ForwardWithVjp(torch.autograd.Function):
    """F(x) for autograd, with the operator's own `vjp` as its backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, operator: Operator) -> Tensor:
        ctx.save_for_backward(x)
        ctx.operator = operator
        return operator.forward(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None]:
        return ctx.operator.vjp(*ctx.saved_tensors, v), None


class Operator(ABC):
    r"""The map :math:`y = F(x)`, batch first.

    A subclass writes `forward` in torch and has its gradient from autograd; it overrides `vjp` for
    a faster or external gradient, and `adjoint` (with `linear = True`) where F is a matrix. It
    computes in the dtype and on the device of its input, and leaves the input unchanged;
    `pflow.operators.check_operator` tests all of this.

    Where F is not defined for every x, a method `valid(x)`, (batch,) of booleans, says for which:
    the data of the others are NaN, without a call of `forward`, and no fit uses points whose data
    are NaN.

    A method `jvp(x, d)`, the derivative :math:`J(x) d` in the direction d, is optional too.

    Arguments:
        model_shape: the shape of one model x.
        data_shape: the shape of the data F(x) of one model.

    Example:
        >>> class Square(Operator):
        ...     def forward(self, x):
        ...         return x.square()
        >>> F, x = Square((2,), (2,)), torch.tensor([[1.0, 3.0]])
        >>> F(x)
        tensor([[1., 9.]])
        >>> F.vjp(x, torch.ones(1, 2))  # J(x)^T v
        tensor([[2., 6.]])
    """

    linear: bool = False
    differentiable: bool = True  # whether there is a gradient
    sources: int = 1  # of a wave or travel-time experiment; data_shape[0] where there are several
    valid: Callable[[Float[Tensor, "batch *model"]], Bool[Tensor, " batch"]] | None = None
    # (x, d) -> J(x) d, where the operator can; its products cost what a gradient costs
    jvp: Callable[[Float[Tensor, "batch *model"], Float[Tensor, "batch *model"]], Tensor] | None = (
        None
    )
    reference: Tensor | None = (
        None  # the model at which `summary` linearises F; zero where there is none
    )

    def __init__(self, model_shape: Sequence[int], data_shape: Sequence[int]) -> None:
        self.model_shape = tuple(model_shape)
        self.data_shape = tuple(data_shape)

    @abstractmethod
    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        """F(x) for each x of the batch."""

    def __call__(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        """F(x), differentiable once by whichever gradient the operator has: its own `vjp`, or
        autograd through `forward`.
        """
        return self._where_valid(x, self.data_shape, lambda rows: self._with_gradient(x[rows]))

    def subset(
        self, x: Float[Tensor, "batch *model"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k *rest"]:
        """`forward_sources` where F is defined, NaN elsewhere."""
        return self._where_valid(
            x,
            (sources.shape[1], *self.data_shape[1:]),
            lambda rows: self.forward_sources(x[rows], sources[rows]),
        )

    def _where_valid(
        self, x: Tensor, shape: tuple[int, ...], evaluate: Callable[[Tensor | slice], Tensor]
    ) -> Tensor:
        """What `evaluate` gives for the rows of x in the domain, NaN for the others."""
        if self.valid is None:
            return evaluate(slice(None))
        inside = self.valid(x.detach()).nonzero()[:, 0]
        if len(inside) == len(x):
            return evaluate(slice(None))
        values = x.new_full((len(x), *shape), torch.nan)
        return values.index_copy(0, inside, evaluate(inside)) if len(inside) else values

    @property
    def _has_own_vjp(self) -> bool:
        return type(self).vjp is not Operator.vjp

    def _with_gradient(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        own = self._has_own_vjp and torch.is_grad_enabled() and x.requires_grad
        return _ForwardWithVjp.apply(x, self) if own else self.forward(x)

    def forward_sources(
        self, x: Float[Tensor, "batch *model"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k *data"]:
        """The rows of F(x) for some of the sources, computed without the others, if the operator
        can.

        Raises:
            PflowError: if it does not.
        """
        raise PflowError(
            f"`{type(self).__name__}` has no `forward_sources(x, sources)`, which subsets of"
            " sources need: define it, or use all sources in every evaluation"
        )

    def vjp(
        self, x: Float[Tensor, "batch *model"], v: Float[Tensor, "batch *data"]
    ) -> Float[Tensor, "batch *model"]:
        r"""The vector-Jacobian product :math:`J(x)^\top v`, by autograd through `forward`.

        Raises:
            PflowError: if `forward` leaves torch, so that autograd cannot follow it from y back to
                x.
        """
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = self.forward(x)
            gradient = (
                torch.autograd.grad(y, x, v, allow_unused=True)[0] if y.requires_grad else None
            )
        if gradient is None:
            raise PflowError(
                f"`{type(self).__name__}.forward` must be differentiable, and autograd finds no"
                " path from its result back to x: compute in torch without .detach(), .numpy() or"
                " .item(), or define `vjp(x, v)`"
            )
        return gradient

    def adjoint(self, v: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *model"]:
        r"""The adjoint :math:`F^\top v` of a linear operator, by default its gradient at x = 0.

        Raises:
            PflowError: if the operator is not linear.
        """
        if not self.linear:
            raise PflowError(
                f"only a linear operator has an adjoint, and `{type(self).__name__}.linear` is"
                " False: use `vjp(x, v)`"
            )
        return self.vjp(v.new_zeros(len(v), *self.model_shape), v)

    def summary(self, y: Float[Tensor, "batch *data"]) -> Float[Tensor, "batch *model"]:
        r"""The data as an image on the model's grid, to condition a flow: :math:`F^\top y` of a
        linear operator, and otherwise the residual carried back from a reference model,
        :math:`J(x_0)^\top (y - F(x_0))`.
        """
        if self.linear:
            return self.adjoint(y)
        start = y.new_zeros(self.model_shape) if self.reference is None else self.reference.to(y)
        x = start.expand(len(y), *self.model_shape)
        with torch.no_grad():
            residual = y - self.forward(x[:1])
        return self.vjp(x, residual)

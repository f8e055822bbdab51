"""An operator after a change of variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pflow.operators.base import Operator

__all__ = ["ComposedOperator"]


class ComposedOperator(Operator):
    r"""The map :math:`F(T(x))`: an operator F of physical parameters, as a function of coordinates
    x.

    Its gradient is that of F, by F's own rule, and autograd's through T; it has `jvp` if F has.

    Arguments:
        operator: F.
        transform: T, in torch, batch first; from (batch, *model_shape) to (batch,
            *operator.model_shape).
        model_shape: the shape of one x.

    Example:
        >>> import torch
        >>> from pflow.operators import MatrixOperator
        >>> squares = ComposedOperator(MatrixOperator(torch.eye(2)), torch.square, (2,))
        >>> squares(torch.tensor([[1.0, 3.0]]))
        tensor([[1., 9.]])
    """

    def __init__(
        self, operator: Operator, transform: Callable[[Tensor], Tensor], model_shape: Sequence[int]
    ) -> None:
        super().__init__(model_shape, operator.data_shape)
        self.operator, self.transform = operator, transform
        self.sources, self.differentiable = operator.sources, operator.differentiable
        if operator.jvp is not None:
            self.jvp = self._jvp

    def forward(self, x: Float[Tensor, "batch *model"]) -> Float[Tensor, "batch *data"]:
        return self.operator(self.transform(x))

    def _jvp(
        self, x: Float[Tensor, "batch *model"], d: Float[Tensor, "batch *model"]
    ) -> Float[Tensor, "batch *data"]:
        """J(x) d, by autograd through T."""
        assert self.operator.jvp is not None, "asked where it has one"
        inner, tangent = torch.autograd.functional.jvp(self.transform, x, d)
        return self.operator.jvp(inner, tangent)

    def forward_sources(
        self, x: Float[Tensor, "batch *model"], sources: Int[Tensor, "batch k"]
    ) -> Float[Tensor, "batch k *data"]:
        return self.operator.subset(self.transform(x), sources)
